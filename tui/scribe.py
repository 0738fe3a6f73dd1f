"""Writes replies down as they come, on the engine's thread: the saved talk owes nothing to the screen."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from engine.events import AnyEvent, TextDelta, TurnFinished
from engine.values import FinishReason
from sessions import Ending, Journal, TurnCounts, TurnState

if TYPE_CHECKING:
    from concurrent.futures import Future

    from sessions import SessionStore, Turn

_STATES = {
    FinishReason.STOP: TurnState.FINISHED,
    FinishReason.LENGTH: TurnState.FINISHED,
    FinishReason.CANCELLED: TurnState.STOPPED,
    FinishReason.FAILED: TurnState.FAILED,
}


class Scribe:
    """Joins the engine's number of a turn with the saved turn that it answers."""

    def __init__(self, store: SessionStore) -> None:
        """Write into this store."""
        self._journal = Journal(store)
        self._lock = threading.Lock()
        self._turns: dict[int, int] = {}
        self._tokens = 0
        self._ended: Future[Turn] | None = None

    def begin(self, number: int, turn: Turn) -> None:
        """Write the text of the engine's turn of that number to the saved turn."""
        with self._lock:
            self._turns[number] = turn.id
            self._tokens = 0
            self._ended = None

    @property
    def ended(self) -> Future[Turn] | None:
        """The turn that ended last, as it was saved; None while a reply is being written."""
        return self._ended

    def take(self, event: AnyEvent) -> None:
        """Write down what belongs to a turn; on the engine's thread."""
        with self._lock:
            turn_id = self._turns.get(event.turn_id)
            if turn_id is None:
                return
            if isinstance(event, TextDelta):
                new_tokens = max(1, event.completion_tokens - self._tokens)
                self._tokens = event.completion_tokens
                self._journal.feed(turn_id, event.text, event.reasoning, new_tokens)
            elif isinstance(event, TurnFinished):
                del self._turns[event.turn_id]
                self._ended = self._journal.finish(turn_id, ending_of(event))


def ending_of(event: TurnFinished) -> Ending:
    """How the saved turn ended."""
    return Ending(
        state=_STATES[event.finish_reason],
        finish_reason=event.finish_reason.value,
        note=f"{event.message} {event.hint}".strip(),
        counts=TurnCounts(
            prompt_tokens=event.usage.prompt_tokens,
            completion_tokens=event.usage.completion_tokens,
            time_to_first_token=event.usage.time_to_first_token,
            decode_tps=event.usage.decode_tps,
        ),
    )
