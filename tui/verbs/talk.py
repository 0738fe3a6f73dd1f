"""An engine process without a screen: one model and answers from it, or answers to other questions."""

from __future__ import annotations

import contextlib
import itertools
import queue
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Self, TypeVar

import msgspec

from engine import EngineProcess, commands, errors, events
from tui import paths

Watch = Callable[[events.AnyEvent], None]
"""Sees every event of the command that is running, on the caller's thread."""

Answer = TypeVar("Answer", bound=events.Event)

_START_SECONDS = 60.0
"""How long an engine may take to be ready before a question with an end is given up."""
_ERRORS = {name: value for name, value in vars(errors).items() if isinstance(value, type)}


class Talk:
    """An engine process for the length of a `with` block, which also turns Ctrl+C into a cancel.

    The first Ctrl+C stops the command that is running; the next one is a KeyboardInterrupt.
    """

    def __init__(self) -> None:
        """Prepare; the process starts with the `with` block."""
        # None stands for Ctrl+C: putting it there is all that a signal handler may safely do.
        self._events: queue.SimpleQueue[events.AnyEvent | None] = queue.SimpleQueue()
        self._turn_ids = itertools.count(1)
        self._stopped = False
        self._ready_at: float | None = None
        self._engine = EngineProcess(self._hear, log=paths.engine_log(), cache=paths.cache_folder())

    def __enter__(self) -> Self:
        """Start the process."""
        self._engine.start()
        self._before = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process, which gives all its memory back."""
        self._engine.close()
        signal.signal(signal.SIGINT, self._before)

    def load(self, wanted: commands.LoadModel, watch: Watch) -> events.ModelLoaded:
        """Load a model.

        Raises:
            EngineError: it cannot be loaded, the load was stopped, or the process ended.
        """
        for event in self._answers(wanted):
            watch(event)
            if isinstance(event, events.ModelLoaded):
                return event
        raise errors.EngineFault("The load ended without a model.", "Try again.")

    def answer(self, wanted: commands.Generate, watch: Watch) -> events.TurnFinished:
        """Answer a conversation; a stopped answer is finished too.

        Raises:
            EngineError: the process ended.
        """
        for event in self._answers(wanted):
            watch(event)
            if isinstance(event, events.TurnFinished):
                return event
        raise errors.EngineFault("The reply broke off without a reason.", "Ask again.")

    def ask(
        self,
        question: commands.DryRun | commands.MeasureLimits,
        answer: type[Answer],
        patience: float | None = None,
    ) -> Answer:
        """Ask something that needs no model; Ctrl+C is a KeyboardInterrupt.

        Args:
            question: what to submit.
            answer: the event that answers it.
            patience: seconds that it may take once the engine is ready; None is for ever.

        Raises:
            EngineError: the engine cannot tell, or the process ended.
            TimeoutError: it took longer.
        """
        turn_id = next(self._turn_ids)
        self._engine.submit(msgspec.structs.replace(question, turn_id=turn_id))
        asked_at = time.monotonic()
        while True:
            event = self._next_event(asked_at, patience)
            if event is None:
                raise KeyboardInterrupt
            if event.turn_id in {0, turn_id}:
                _raise_what_failed(event)
            if isinstance(event, answer):
                return event

    def _next_event(self, asked_at: float, patience: float | None) -> events.AnyEvent | None:
        if patience is None:
            return self._events.get()
        while True:
            with contextlib.suppress(queue.Empty):
                event = self._events.get(timeout=0.1)
                if not self._is_late(asked_at, patience):
                    return event
            if self._is_late(asked_at, patience):
                raise TimeoutError

    def _is_late(self, asked_at: float, patience: float) -> bool:
        now = time.monotonic()
        if self._ready_at is None:
            return now > asked_at + _START_SECONDS
        return now > max(asked_at, self._ready_at) + patience

    def _hear(self, event: events.AnyEvent) -> None:
        if isinstance(event, events.EngineReady):
            self._ready_at = time.monotonic()
        self._events.put(event)

    def _answers(self, command: commands.LoadModel | commands.Generate) -> Iterator[events.AnyEvent]:
        turn_id = next(self._turn_ids)
        self._engine.submit(msgspec.structs.replace(command, turn_id=turn_id))
        while True:
            event = self._events.get()
            if event is None:
                self._engine.cancel(turn_id)
            elif event.turn_id in {0, turn_id}:
                _raise_what_failed(event)
                yield event

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if self._stopped:
            raise KeyboardInterrupt
        self._stopped = True
        self._events.put(None)


def _raise_what_failed(event: events.AnyEvent) -> None:
    if isinstance(event, events.Failed):
        raise _error_class(event.error)(event.message, event.hint)
    if isinstance(event, events.EngineEnded):
        raise errors.EngineDied(event.message, event.hint)


def _error_class(name: str) -> type[errors.EngineError]:
    found = _ERRORS.get(name, errors.EngineFault)
    return found if issubclass(found, errors.EngineError) else errors.EngineFault
