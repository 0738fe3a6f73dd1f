"""Replies on their way to the disk: at most 250 ms or 64 tokens behind, without blocking who feeds them."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from sessions import edits
from sessions.text import storable

if TYPE_CHECKING:
    from sessions.store import SessionStore
    from sessions.values import Ending, Turn

FLUSH_SECONDS = 0.25
FLUSH_TOKENS = 64


@dataclass(slots=True)
class _Buffer:
    """What was fed of one turn and is not on disk yet."""

    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    tokens: int = 0
    is_flush_due: bool = False
    is_flush_urgent: bool = False

    def joined(self) -> tuple[str, str]:
        """Reply and reasoning."""
        return "".join(self.texts), "".join(self.thoughts)

    def next_flush(self) -> float | None:
        """Seconds until a flush that has to be asked for now; None when one is under way."""
        if self.tokens >= FLUSH_TOKENS and not self.is_flush_urgent:
            self.is_flush_urgent = self.is_flush_due = True
            return 0.0
        if self.is_flush_due or not (self.texts or self.thoughts):
            return None
        self.is_flush_due = True
        return FLUSH_SECONDS

    def drop(self, texts: int, thoughts: int) -> None:
        """Forget the first pieces, which are on disk now."""
        del self.texts[:texts]
        del self.thoughts[:thoughts]


class Journal:
    """Takes the pieces of streaming replies and has the store's writer thread append them.

    A flush writes one short row, whatever the length of the reply. When the storage fails,
    the text stays in memory and is written when it works again; `unsaved` says what that is.
    """

    def __init__(self, store: SessionStore) -> None:
        """Journal nothing yet.

        Args:
            store: an open one.
        """
        self._store = store
        self._buffers: dict[int, _Buffer] = {}
        self._lock = threading.Lock()

    def feed(self, turn_id: int, text: str, reasoning: bool = False, tokens: int = 1) -> None:
        """Take more of a reply; from any thread, in order, without waiting for the disk.

        Args:
            turn_id: the turn as `begin_turn` numbered it.
            text: whole characters.
            reasoning: it is thinking text, not the answer.
            tokens: how many tokens the text is made of.
        """
        with self._lock:
            buffer = self._buffers.setdefault(turn_id, _Buffer())
            (buffer.thoughts if reasoning else buffer.texts).append(storable(text))
            buffer.tokens += tokens
            delay = buffer.next_flush()
        self._flush_after(turn_id, delay)

    def finish(self, turn_id: int, ending: Ending) -> Future[Turn]:
        """Write what is left of a reply and how it ended; resolves after the commit."""
        future = self._store.write(partial(self._end, turn_id, ending))
        future.add_done_callback(partial(self._forget, turn_id))
        return future

    def unsaved(self, turn_id: int) -> tuple[str, str]:
        """Reply and reasoning that are not on disk yet."""
        with self._lock:
            return self._buffers.get(turn_id, _Buffer()).joined()

    def _flush_after(self, turn_id: int, delay: float | None) -> None:
        if delay is not None:
            future = self._store.write(partial(self._flush, turn_id), delay)
            future.add_done_callback(partial(self._flushed, turn_id))

    def _flush(self, turn_id: int, connection: sqlite3.Connection) -> tuple[int, int, int]:
        """Append what there is now; how many texts, thoughts and tokens that was."""
        with self._lock:
            buffer = self._buffers.get(turn_id, _Buffer())
            counts = (len(buffer.texts), len(buffer.thoughts), buffer.tokens)
            reply, reasoning = buffer.joined()
        if reply or reasoning:
            edits.append_piece(connection, turn_id, reply, reasoning)
        return counts

    def _flushed(self, turn_id: int, future: Future[tuple[int, int, int]]) -> None:
        delay = None
        with self._lock:
            buffer = self._buffers.get(turn_id)
            if buffer is not None:
                delay = _after_flush(buffer, None if future.exception() else future.result())
        self._flush_after(turn_id, delay)

    def _end(self, turn_id: int, ending: Ending, connection: sqlite3.Connection) -> Turn:
        reply, reasoning = self.unsaved(turn_id)
        edits.append_piece(connection, turn_id, reply, reasoning)
        return edits.end_turn(connection, turn_id, ending)

    def _forget(self, turn_id: int, future: Future[Turn]) -> None:
        if not future.cancelled() and future.exception() is None:
            with self._lock:
                self._buffers.pop(turn_id, None)


def _after_flush(buffer: _Buffer, saved: tuple[int, int, int] | None) -> float | None:
    """Take a flush's result into account; seconds until the next one, None when it failed or all is saved."""
    buffer.is_flush_due = buffer.is_flush_urgent = False
    if saved is None:
        return None
    texts, thoughts, tokens = saved
    buffer.drop(texts, thoughts)
    buffer.tokens -= tokens
    return buffer.next_flush()
