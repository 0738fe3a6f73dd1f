"""Where events wait for the screen: readings are replaced by newer ones, text is joined and never lost."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING

import msgspec

from engine.events import DROPPABLE, TextDelta

if TYPE_CHECKING:
    from collections.abc import Callable


class Inbox:
    """A queue that any thread fills and the screen's loop empties.

    A stalled screen costs memory for text only, and one entry per kind of reading.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        """Begin empty.

        Args:
            wake: called from the filling thread when the first entry after an emptying arrives.
        """
        self._wake = wake
        self._lock = threading.Lock()
        self._entries: dict[object, object] = {}
        self._numbers = itertools.count()

    def put(self, entry: object, *, is_reading: bool = False) -> None:
        """Add an event or a reading; never waits."""
        with self._lock:
            was_empty = not self._entries
            if is_reading or isinstance(entry, DROPPABLE):
                self._entries.pop(type(entry), None)
                self._entries[type(entry)] = entry
            else:
                self._add(entry)
        if was_empty:
            self._wake()

    def _add(self, entry: object) -> None:
        key = next(reversed(self._entries), None)
        last = self._entries.get(key)
        if isinstance(entry, TextDelta) and isinstance(last, TextDelta) and _is_one_text(last, entry):
            self._entries[key] = msgspec.structs.replace(entry, text=last.text + entry.text)
        else:
            self._entries[next(self._numbers)] = entry

    def take(self) -> tuple[object, ...]:
        """Empty it: everything in the order it came, of each kind of reading the newest."""
        with self._lock:
            taken = tuple(self._entries.values())
            self._entries = {}
        return taken


def _is_one_text(last: TextDelta, entry: TextDelta) -> bool:
    return (last.turn_id, last.reasoning) == (entry.turn_id, entry.reasoning)
