"""The compiled kernels, where this machine has a compiler."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
import torch

from engine.hf.native import trial
from engine.hf.native.build import Missing
from engine.hf.native.foundry import Foundry
from engine.hf.native.library import Kernels


@cache
def built() -> Kernels | Missing:
    return Foundry().kernels(lambda: None)


@pytest.fixture
def kernels() -> Kernels:
    found = built()
    if found is Missing.COMPILER:
        pytest.skip(found.value)
    assert isinstance(found, Kernels), found
    return found


@pytest.fixture(autouse=True)
def whatever_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels that compute the same are taken, however busy this machine is."""
    monkeypatch.setattr(trial, "MOST_TIMES", 1e6)


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """Kernels share their work between threads, whatever the tests around them do."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
