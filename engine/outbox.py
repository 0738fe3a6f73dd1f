"""The engine's way out: events get their numbers here, and text is gathered into fewer of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import cast

import msgspec

from engine.events import AnyEvent, Event, TextDelta

GATHER_SECONDS = 0.033
"""The longest that a piece of text waits for the next one."""


class Outbox:
    """Numbers events from 1 and hands them on in order, from whichever thread sends.

    The first piece of a turn's text goes at once. Later ones are joined until 33 ms have passed, another
    event is sent, or reasoning turns into answer; a thread of its own hands on what waits.
    """

    def __init__(self, deliver: Callable[[AnyEvent], None]) -> None:
        """Hand every event to `deliver`, one at a time."""
        self._deliver = deliver
        self._changed = threading.Condition()
        self._sent = 0
        self._waiting: list[TextDelta] = []
        self._text_turn: int | None = None
        self._text_sent_at = 0.0
        self._is_closed = False
        self._clock = threading.Thread(target=self._watch_clock, name="engine-outbox", daemon=True)
        self._clock.start()

    def send(self, event: Event, turn_id: int) -> None:
        """Hand on an event of that turn; text may wait for more of it."""
        with self._changed:
            if isinstance(event, TextDelta):
                self._gather(msgspec.structs.replace(event, turn_id=turn_id))
            else:
                self._flush()
                self._number(event, turn_id)

    def close(self) -> None:
        """Hand on what waits and end the thread."""
        with self._changed:
            self._flush()
            self._is_closed = True
            self._changed.notify()
        self._clock.join()

    def _gather(self, delta: TextDelta) -> None:
        if self._waiting and _kind(self._waiting[-1]) != _kind(delta):
            self._flush()
        self._waiting.append(delta)
        is_first = delta.turn_id != self._text_turn
        if is_first or self._seconds_left() <= 0:
            self._flush()
        elif len(self._waiting) == 1:
            self._changed.notify()

    def _flush(self) -> None:
        if not self._waiting:
            return
        last = self._waiting[-1]
        text = "".join(delta.text for delta in self._waiting)
        self._waiting.clear()
        self._text_turn = last.turn_id
        self._text_sent_at = time.monotonic()
        self._number(msgspec.structs.replace(last, text=text), last.turn_id)

    def _number(self, event: Event, turn_id: int) -> None:
        self._sent += 1
        numbered = msgspec.structs.replace(event, seq=self._sent, turn_id=turn_id)
        self._deliver(cast("AnyEvent", numbered))

    def _seconds_left(self) -> float:
        return self._text_sent_at + GATHER_SECONDS - time.monotonic()

    def _watch_clock(self) -> None:
        with self._changed:
            while not self._is_closed:
                if not self._waiting:
                    self._changed.wait()
                elif (left := self._seconds_left()) > 0:
                    self._changed.wait(left)
                else:
                    self._flush()


def _kind(delta: TextDelta) -> tuple[int, bool]:
    return delta.turn_id, delta.reasoning
