"""What is known of a reply while it is being written, for replies that end without saying it."""

from __future__ import annotations

import time

from engine.events import Event, MemoryLedger, TextDelta, TurnFinished, TurnStarted
from engine.values import TurnUsage


class TurnMeter:
    """Follows the events of one turn and sums them up at any moment.

    Attributes:
        is_finished: the turn's TurnFinished was seen.
    """

    def __init__(self) -> None:
        """Start with the turn."""
        self._began = time.perf_counter()
        self._first_text: float | None = None
        self._last_text = self._began
        self._started = TurnStarted(prompt_tokens=0)
        self._completion_tokens = 0
        self._context_used = 0
        self.is_finished = False

    def watch(self, event: Event) -> None:
        """Take one event of the turn into account."""
        if isinstance(event, TurnStarted):
            self._started = event
        elif isinstance(event, MemoryLedger):
            self._context_used = event.context_used
        elif isinstance(event, TextDelta):
            self._watch_text(event)
        elif isinstance(event, TurnFinished):
            self.is_finished = True

    def _watch_text(self, delta: TextDelta) -> None:
        self._last_text = time.perf_counter()
        self._first_text = self._first_text or self._last_text
        self._completion_tokens = delta.completion_tokens

    def usage(self) -> TurnUsage:
        """Counts and speeds so far; what was not seen is 0."""
        prompt_tokens = self._started.prompt_tokens
        filled = prompt_tokens + self._completion_tokens
        return TurnUsage(
            prompt_tokens=prompt_tokens,
            reused_tokens=self._started.reused_tokens,
            completion_tokens=self._completion_tokens,
            time_to_first_token=(self._first_text or self._began) - self._began,
            decode_tps=self._decode_tps(),
            context_used=max(filled, self._context_used),
            context_window=self._started.context_window,
        )

    def _decode_tps(self) -> float:
        if self._first_text is None or self._last_text <= self._first_text:
            return 0.0
        return max(self._completion_tokens - 1, 0) / (self._last_text - self._first_text)
