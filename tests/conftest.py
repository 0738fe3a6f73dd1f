"""Settings that every test shares."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import settings

# A shared machine may be slow for a moment, which is no property of the code.
settings.register_profile("vramble", deadline=None, print_blob=True)
settings.load_profile("vramble")

# All test processes share one build of the kernels, which is named by its sources.
os.environ.setdefault(
    "VRAMBLE_KERNELS", str(Path(tempfile.gettempdir()) / f"vramble-test-kernels-{os.getuid()}")
)
