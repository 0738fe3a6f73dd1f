"""What the ways to compute a token have in common: a sample to compare them by, and how one is stopped."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch

POLL_SECONDS = 0.02
SLOW_STEP_SECONDS = 0.1
TIMED_STEPS = 4
TIMED_SECONDS = 0.03


class Sample(NamedTuple):
    """What one way computed from an empty cache on, and how fast.

    Attributes:
        token_ids: of a prompt, at most eight.
        prompt_logits: of its last token, [vocabulary].
        step_logits: of its first token again, behind the prompt.
        step_position: that this token was told to be at: far away, where positions may matter otherwise.
        seconds: that a single token takes.
    """

    token_ids: Sequence[int]
    prompt_logits: torch.Tensor
    step_logits: torch.Tensor
    step_position: int
    seconds: float


class StepDecoder(Protocol):
    """Computes a few tokens in one call."""

    most_tokens: int

    def feed(self, token_ids: Sequence[int], layers: Sequence[Any]) -> torch.Tensor | None:
        """Return logits [tokens, vocabulary]; None when it was cancelled: the cache is as it was."""

    def cancel(self, *, wanted: bool = True) -> None:
        """Stop a step under way, or (wanted=False) allow steps again; any thread may call this."""


TryWays = Callable[[Sample, Callable[[Sequence[int]], Sample]], StepDecoder | None]
"""Is given what the model's own code computed, and lets it compute such samples again after a change."""


def least_seconds(step: Callable[[], object]) -> float:
    """Take the time of a step; of a fast one the least of some, for the first ones cost more."""
    least, began = math.inf, time.perf_counter()
    for _ in range(TIMED_STEPS):
        started = time.perf_counter()
        step()
        ended = time.perf_counter()
        least = min(least, ended - started)
        if ended - began > TIMED_SECONDS:
            break
    return least


@contextmanager
def cancelling(cancel: Callable[..., None], cancelled: Callable[[], bool]) -> Iterator[None]:
    """Watch for a cancel while a step runs that is too long to wait for; afterwards steps are allowed."""
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(POLL_SECONDS):
            if cancelled():
                cancel()
                return

    watcher = threading.Thread(target=watch, name="cancel", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        is_over.set()
        watcher.join()
        cancel(wanted=False)
