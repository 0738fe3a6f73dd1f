"""Commands that wait for an answer from the engine process."""

from __future__ import annotations

import time
from collections import deque

from engine.commands import AnyCommand, Generate, LoadModel
from engine.engine import failure
from engine.errors import EngineError, LoadCancelled
from engine.events import (
    AnyEvent,
    DryRunDone,
    Failed,
    Inspected,
    LimitsMeasured,
    ModelLoaded,
    ModelUnloaded,
    Planned,
    TurnFinished,
)
from engine.meter import TurnMeter

LOAD_STOP_SECONDS = 0.15
TURN_STOP_SECONDS = 1.8
_ANSWERS = (
    Inspected,
    DryRunDone,
    LimitsMeasured,
    Planned,
    ModelLoaded,
    ModelUnloaded,
    TurnFinished,
    Failed,
)


class Pending:
    """First the commands that a process works on, in order, then those that none has seen."""

    def __init__(self) -> None:
        """Nothing is pending."""
        self.cancelled_through = -1
        self._cancelled_at = 0.0
        self._given: list[AnyCommand] = []
        self._waiting: deque[AnyCommand] = deque()
        self._meter = TurnMeter()
        self._head_since = 0.0

    @property
    def head(self) -> AnyCommand | None:
        """The command that the process works on."""
        return self._given[0] if self._given else None

    @property
    def is_stopping(self) -> bool:
        """The command that the process works on was cancelled and is not answered yet."""
        return self.head is not None and self._is_cancelled(self.head)

    def add(self, command: AnyCommand) -> None:
        """Wait for a process."""
        self._waiting.append(command)

    def give(self) -> list[AnyCommand]:
        """Hand what waits to a process; what it was given."""
        given = list(self._waiting)
        self._waiting.clear()
        if given and not self._given:
            self._begin_head()
        self._given += given
        return given

    def drop(self, command: AnyCommand) -> None:
        """Forget a command that was answered otherwise."""
        self._given.remove(command)

    def watch(self, event: AnyEvent) -> None:
        """Follow an event of the process; an answer takes its command off the list."""
        self._meter.watch(event)
        if not isinstance(event, _ANSWERS):
            return
        for command in self._given:
            if command.turn_id == event.turn_id:
                self._given.remove(command)
                self._begin_head()
                return

    def cancel(self, turn_id: int) -> None:
        """Note that this command and every earlier one are to stop."""
        if turn_id > self.cancelled_through:
            self.cancelled_through = turn_id
            self._cancelled_at = time.monotonic()

    def is_overdue(self, *, is_silent: bool) -> bool:
        """The process should have stopped its command by now; a silent one is given no time."""
        if not self.is_stopping:
            return False
        if is_silent:
            return True
        limits = {LoadModel: LOAD_STOP_SECONDS, Generate: TURN_STOP_SECONDS}
        limit = limits.get(type(self._given[0]))
        return limit is not None and time.monotonic() - max(self._cancelled_at, self._head_since) > limit

    def withdraw_cancelled(self) -> list[AnyEvent]:
        """Answers to what was cancelled; the other commands wait for the next process."""
        stopped = [command for command in self._given if self._is_cancelled(command)]
        self._waiting.extendleft(command for command in reversed(self._given) if command not in stopped)
        return self._answer(stopped, LoadCancelled("It was stopped, and the engine was started anew."))

    def withdraw_given(self, error: EngineError) -> list[AnyEvent]:
        """Answers to everything that the process was given."""
        return self._answer(self._given, error)

    def withdraw_waiting(self, error: EngineError) -> list[AnyEvent]:
        """Answers to loads and replies that no process was given; other commands need no model and stay."""
        moot = [command for command in self._waiting if isinstance(command, LoadModel | Generate)]
        for command in moot:
            self._waiting.remove(command)
        return [failure(command, error, TurnMeter()) for command in moot]

    def withdraw_all(self, error: EngineError) -> list[AnyEvent]:
        """Answers to everything."""
        self.give()
        return self.withdraw_given(error)

    def _answer(self, commands: list[AnyCommand], error: EngineError) -> list[AnyEvent]:
        answers: list[AnyEvent] = []
        for command in commands:
            meter = self._meter if command is self.head else TurnMeter()
            answers.append(failure(command, error, meter))
        self._given = []
        return answers

    def _is_cancelled(self, command: AnyCommand) -> bool:
        return command.turn_id <= self.cancelled_through

    def _begin_head(self) -> None:
        self._meter = TurnMeter()
        self._head_since = time.monotonic()
