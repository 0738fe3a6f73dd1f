from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessions import SessionStore

# A kill leaves what was written, synchronised or not; so the tests need not wait for a disk.
_MEMORY = Path("/dev/shm")


@pytest.fixture
def file() -> Iterator[Path]:
    place = _MEMORY if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        yield Path(folder) / "data" / "sessions.db"


@pytest.fixture
def store(file: Path) -> Iterator[SessionStore]:
    with SessionStore(file) as opened:
        yield opened
