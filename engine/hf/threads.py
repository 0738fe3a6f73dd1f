"""How many CPU threads a model is fastest with: a small one loses more to waiting than it gains."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

ROUNDS = 3
SETTLING_SECONDS = 0.1
"""Short steps are timed more often: another program may hold a core for as long as several of them."""
CLEARLY_FASTER = 0.9


def settle_threads(step: Callable[[], object]) -> int:
    """Time a step with all threads and with one, keep the faster way, and return its number.

    Args:
        step: computes one token; called ROUNDS times or more each way, in turns, since machines are noisy.
    """
    most = torch.get_num_threads()
    if most == 1:
        return 1
    alone: list[float] = []
    together: list[float] = []
    while len(alone) < ROUNDS or sum(alone) + sum(together) < SETTLING_SECONDS:
        alone.append(_seconds_with(1, step))
        together.append(_seconds_with(most, step))
    fastest = 1 if min(alone) < CLEARLY_FASTER * min(together) else most
    torch.set_num_threads(fastest)
    return fastest


def _seconds_with(threads: int, step: Callable[[], object]) -> float:
    torch.set_num_threads(threads)
    started = time.perf_counter()
    step()
    return time.perf_counter() - started
