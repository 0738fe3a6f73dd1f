"""What backends keep between runs goes to a folder of each test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.hf import backend
from engine.hf.native import trial


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("VRAMBLE_HOME", str(folder))
    return folder


@pytest.fixture(autouse=True)
def waits_for_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny models are computed by kernels, too, also while those are compiled for the first time."""
    monkeypatch.setattr(backend, "WORTH_WAITING_BYTES", 0)


@pytest.fixture(autouse=True)
def whatever_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels that compute the same are taken, however busy this machine is."""
    monkeypatch.setattr(trial, "MOST_TIMES", 1e6)
