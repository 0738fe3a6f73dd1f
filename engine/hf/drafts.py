"""Guesses of the next tokens from what was written before, so that a quoting reply takes fewer steps.

Prompt lookup (Saxena, 2023): where the last tokens stood once already, what followed them there may follow
again. The model computes the guess together with the token that is due, and keeps what it would have chosen.
"""

from __future__ import annotations

from collections.abc import Sequence

LOOKED_UP = 3
"""Tokens that must have stood there already."""
MOST_GUESSED = 4
TRIALS = 2
"""Guesses that are computed before their worth is judged."""
PAUSE_STEPS = 16
"""Steps without a guess after one too many failed; twice as many each time that it happens again."""
MOST_PAUSE_STEPS = 1024
_WEIGHT = 0.3
"""Of the newest figure in the averages."""


class Drafts:
    """What one conversation said, looked up by its last tokens."""

    def __init__(self, context: Sequence[int]) -> None:
        """Take note of a prompt.

        Args:
            context: token ids.
        """
        self._said: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}
        for token_id in context:
            self.add(token_id)

    def add(self, token_id: int) -> None:
        """Take note of one more token, and of what it followed."""
        if len(self._said) >= LOOKED_UP:
            self._after[tuple(self._said[-LOOKED_UP:])] = len(self._said)
        self._said.append(token_id)

    def guess(self, most: int = MOST_GUESSED) -> list[int]:
        """Return up to `most` tokens that may follow; none where the last ones are new."""
        at = self._after.get(tuple(self._said[-LOOKED_UP:]))
        return [] if at is None else self._said[at : at + most]


class Worth:
    """Whether guesses pay on this model and in this reply: tokens gained against seconds spent."""

    def __init__(self) -> None:
        """Begin curiously."""
        self._alone = 0.0
        self._guessed = 0.0
        self._gained = 0.0
        self._trials = 0
        self._pause = PAUSE_STEPS
        self._steps_left = 0

    def is_open(self) -> bool:
        """Whether to compute a guess in this step; counts the steps of a pause."""
        if self._steps_left:
            self._steps_left -= 1
            return False
        return self._alone > 0.0

    def note_alone(self, seconds: float) -> None:
        """Take note of a step without a guess."""
        self._alone = _averaged(self._alone, seconds)

    def note_guess(self, kept: int, seconds: float) -> None:
        """Take note of a step with one.

        Args:
            kept: guessed tokens that were right.
            seconds: of the step.
        """
        self._trials += 1
        self._guessed = _averaged(self._guessed, seconds)
        self._gained = kept if self._trials == 1 else _averaged(self._gained, kept)
        if self._trials >= TRIALS and (1 + self._gained) * self._alone <= self._guessed:
            self._steps_left, self._trials = self._pause, 0
            self._pause = min(MOST_PAUSE_STEPS, 2 * self._pause)


def _averaged(before: float, newest: float) -> float:
    return newest if before == 0.0 else (1 - _WEIGHT) * before + _WEIGHT * newest
