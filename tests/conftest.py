"""Settings that every test shares."""

from __future__ import annotations

from hypothesis import settings

# A shared machine may be slow for a moment, which is no property of the code.
settings.register_profile("vramble", deadline=None, print_blob=True)
settings.load_profile("vramble")
