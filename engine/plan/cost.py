"""What computes a step, and what one module takes of it."""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple


class Way(Enum):
    """What computes a step."""

    GENERAL = auto()
    SINGLE_LAYERS = auto()
    WHOLE_STEP = auto()


class Cost(NamedTuple):
    """Seconds that one module takes of one step, by what they go to."""

    weights: float = 0.0
    cache: float = 0.0
    dispatch: float = 0.0
    link: float = 0.0
    disk: float = 0.0

    @property
    def working(self) -> float:
        """All of it but reading the disk, which may go on meanwhile."""
        return self.weights + self.cache + self.dispatch + self.link

    def times(self, factor: float) -> Cost:
        """All of it, longer by a factor."""
        return Cost(*(factor * seconds for seconds in self))
