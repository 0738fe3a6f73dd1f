"""One reply's forwards: a token a step, or several where what was written before tells what comes next."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

import torch

from engine.hf.decode import Runner
from engine.hf.drafts import Drafts, Worth


class Steps:
    """Computes the logits behind each chosen token; guesses that were not chosen leave the cache again.

    Attributes:
        guessed: tokens that needed no forward of their own.
    """

    def __init__(self, runner: Runner, prompt: Sequence[int], window: int) -> None:
        """Begin a reply.

        Args:
            runner: its cache holds the prompt.
            prompt: token ids.
            window: tokens that the cache may hold.
        """
        self._runner = runner
        self._window = window
        self._drafts = Drafts(prompt) if runner.can_guess else None
        self._worth = Worth()
        self._guess: deque[int] = deque()
        self._rows: deque[torch.Tensor] = deque()
        self._guessed_seconds = 0.0
        self._kept = 0
        self.guessed = 0

    def behind(self, token_id: int) -> torch.Tensor:
        """Return the logits [vocabulary] behind a chosen token."""
        if self._drafts is None:
            return self._runner.feed([token_id])
        self._drafts.add(token_id)
        if self._guess and self._guess[0] == token_id:
            self._guess.popleft()
            self._kept += 1
            self.guessed += 1
            return self._rows.popleft()
        self.finish()
        return self._computed(token_id)

    def finish(self) -> None:
        """Take what was guessed and not chosen out of the cache."""
        if self._guessed_seconds:
            self._worth.note_guess(self._kept, self._guessed_seconds)
            self._guessed_seconds = 0.0
        if self._guess:
            self._runner.kv.take_back(len(self._guess))
            self._guess.clear()
            self._rows.clear()

    def _computed(self, token_id: int) -> torch.Tensor:
        guess = self._guessed()
        started = time.perf_counter()
        rows = self._runner.feed_all([token_id, *guess])
        seconds = time.perf_counter() - started
        if guess:
            self._guess.extend(guess)
            self._rows.extend(rows[1:])
            self._guessed_seconds, self._kept = seconds, 0
        else:
            self._worth.note_alone(seconds)
        return rows[0]

    def _guessed(self) -> list[int]:
        """Return what to compute together with the token that is due."""
        room = self._window - len(self._runner.kv.token_ids) - 1
        guess = self._drafts.guess() if self._drafts else []
        return guess[: max(0, room)] if guess and self._worth.is_open() else []
