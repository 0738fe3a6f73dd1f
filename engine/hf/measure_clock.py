"""Timing on a machine that others use, too: many short samples, of which the quicker ones count."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar, cast

Figures = TypeVar("Figures")
"""A number, or a dict or named tuple of such."""
_TASKS = Path("/proc/self/task")
_NANOSECONDS = 1e9
USUAL_SHARE = 0.3
"""Of the samples in ascending order: the one at this place stands for an undisturbed call."""


class Waiting:
    """How long this process's threads waited for a core while they were ready to run."""

    def __init__(self) -> None:
        """Begin."""
        self._started = time.perf_counter()
        self._waited = _waited_seconds()

    def share(self) -> float:
        """Of the time since the beginning, the part that the threads together waited; 0 where unknown."""
        elapsed = time.perf_counter() - self._started
        return max(0.0, _waited_seconds() - self._waited) / elapsed if elapsed > 0 else 0.0


def _waited_seconds() -> float:
    """The run delays of all threads, as Linux tells them."""
    waited = 0
    for task in _TASKS.glob("*/schedstat"):
        with contextlib.suppress(OSError, IndexError, ValueError):  # a thread may end meanwhile
            waited += int(task.read_text().split()[1])
    return waited / _NANOSECONDS


def usual(samples: Sequence[float]) -> float:
    """The time of a call that nobody disturbed: a low quantile, where a minimum would be luck."""
    return sorted(samples)[int(USUAL_SHARE * (len(samples) - 1))]


def middle(rounds: Sequence[Figures]) -> Figures:
    """Return each figure's median: memory can be half as fast for a second, and rounds lie seconds apart."""
    first = rounds[0]
    if isinstance(first, dict):
        return cast("Figures", {name: middle([_column(one, name) for one in rounds]) for name in first})
    if isinstance(first, tuple):
        return cast("Figures", type(first)(*(middle(column) for column in zip(*rounds, strict=True))))
    return cast("Figures", statistics.median(cast("Sequence[float]", rounds)))


def _column(figures: object, name: object) -> float:
    return cast("dict[object, float]", figures)[name]


def seconds_of(calls: Iterable[Callable[[], object]]) -> float:
    """Call each once and return what one usually takes, in seconds."""
    return usual([timed(call) for call in calls])


def timed(call: Callable[[], object]) -> float:
    """Call once and return the seconds."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def until(seconds: float, most: int, call: Callable[[], object]) -> float:
    """Call again and again, at least once, and return what one call usually takes.

    Args:
        seconds: no call begins later than this.
        most: calls at most.
        call: what is measured.
    """
    end = time.perf_counter() + seconds
    samples = [timed(call)]
    while len(samples) < most and time.perf_counter() < end:
        samples.append(timed(call))
    return usual(samples)


def within(seconds: float, calls: Iterable[Callable[[], object]]) -> list[float]:
    """Call one after the other, at least one, and none that would begin later than in some seconds."""
    end = time.perf_counter() + seconds
    samples = []
    for call in calls:
        samples.append(timed(call))
        if time.perf_counter() > end:
            break
    return samples
