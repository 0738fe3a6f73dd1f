"""Things on top of one another, found by the row they lie at."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Column(Generic[T]):
    """A list of things that take rows; where each begins is added up once and kept."""

    def __init__(self, measure: Callable[[T], int]) -> None:
        """Begin empty.

        Args:
            measure: rows that a thing takes now.
        """
        self._measure = measure
        self._items: list[T] = []
        self._ends: list[int] = []

    def __len__(self) -> int:
        """How many things there are."""
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        """From top to bottom."""
        return iter(self._items)

    def __getitem__(self, index: int) -> T:
        """The thing at a place from the top."""
        return self._items[index]

    def append(self, item: T) -> None:
        """Put one more thing below the others."""
        self._items.append(item)

    def replace(self, start: int, items: Iterable[T]) -> None:
        """Put `items` in the place of everything from index `start` on."""
        self._items[start:] = items
        self.touch(start)

    def touch(self, start: int = 0) -> None:
        """Measure anew from index `start` on; heights may have changed."""
        del self._ends[start:]

    def remeasure(self, index: int) -> bool:
        """Measure one thing anew; True if its height was another one before."""
        known = self.top(index + 1) - self.top(index)
        if known == self._measure(self._items[index]):
            return False
        self.touch(index)
        return True

    @property
    def height(self) -> int:
        """Rows of all things together."""
        return self.top(len(self._items))

    def top(self, index: int) -> int:
        """The row at which the thing at `index` begins."""
        self._measure_up_to(index)
        return self._ends[index - 1] if index else 0

    def at(self, row: int) -> tuple[int, int]:
        """Index of the thing at `row`, and the row within it; the last thing for rows below the end."""
        self._measure_up_to(len(self._items))
        index = min(bisect_right(self._ends, row), len(self._items) - 1)
        return index, row - self.top(index)

    def _measure_up_to(self, index: int) -> None:
        end = self._ends[-1] if self._ends else 0
        for item in self._items[len(self._ends) : index]:
            end += self._measure(item)
            self._ends.append(end)
