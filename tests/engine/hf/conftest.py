"""What backends keep between runs goes to a folder of each test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.hf import backend


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("VRAMBLE_HOME", str(folder))
    return folder


@pytest.fixture(autouse=True)
def waits_for_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny models are computed by kernels, too, also while those are compiled for the first time."""
    monkeypatch.setattr(backend, "WORTH_WAITING_BYTES", 0)
