"""Times of one turn."""

from __future__ import annotations

import time

from engine.hf.ledger import peak_vram, process_memory
from engine.values import TurnUsage


class Stopwatch:
    """Started with the turn; counts the tokens of its reply."""

    def __init__(self) -> None:
        """Start."""
        self.started = time.perf_counter()
        self._prefilled_at = self.started
        self._first_at = self.started
        self._last_at = self.started
        self._tokens = 0

    def note_prefilled(self) -> None:
        """The prompt is computed."""
        self._prefilled_at = time.perf_counter()

    def note_token(self) -> None:
        """One more token is chosen."""
        self._last_at = time.perf_counter()
        if not self._tokens:
            self._first_at = self._last_at
        self._tokens += 1

    def usage(
        self, prompt_tokens: int, reused_tokens: int, context_window: int, guessed_tokens: int = 0
    ) -> TurnUsage:
        """Return the turn's counts and speeds."""
        return TurnUsage(
            prompt_tokens=prompt_tokens,
            reused_tokens=reused_tokens,
            completion_tokens=self._tokens,
            guessed_tokens=guessed_tokens,
            time_to_first_token=self._first_at - self.started,
            prefill_tps=_per_second(prompt_tokens - reused_tokens, self._prefilled_at - self.started),
            decode_tps=_per_second(self._tokens - 1, self._last_at - self._first_at),
            context_used=min(context_window, prompt_tokens + self._tokens),
            context_window=context_window,
            peak_ram_bytes=process_memory().peak,
            peak_vram_bytes=peak_vram(),
        )


def _per_second(count: int, seconds: float) -> float:
    return count / seconds if count > 0 and seconds > 0 else 0.0
