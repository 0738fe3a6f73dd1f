"""An engine of these tests that builds nothing and measures nothing, and says so at once."""

from __future__ import annotations

from pathlib import Path

import pytest


def use_scripted_engine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let engine processes be scripted ones."""
    script = folder / "script.json"
    script.write_text("{}")
    monkeypatch.setenv("VRAMBLE_BACKEND", f"scripted:{script}")
