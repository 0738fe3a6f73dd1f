"""The one path between the screen and the engine, and from the engine to the saved talk.

The engine's events are written down on the engine's thread, before and without the screen: a
stalled terminal costs no text.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
from typing import TYPE_CHECKING

import msgspec

from engine.commands import AnyCommand, DryRun, Generate, LoadModel, MeasureLimits, UnloadModel
from engine.events import (
    AnyEvent,
    DryRunDone,
    EngineEnded,
    Failed,
    LimitsMeasured,
    MemoryLedger,
    ModelLoaded,
    ModelUnloaded,
    TurnFinished,
)
from tui import paths
from tui.holdings import Holdings
from tui.inbox import Inbox

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from pathlib import Path

    from engine import EngineProcess, MemoryMonitor, MemoryReading
    from engine.values import ChatMessage, SamplingParams, TurnUsage
    from sessions import SessionStore, Turn
    from tui.options import ChatOptions
    from tui.scribe import Scribe
    from tui.settings import Settings


class SavingProblem(msgspec.Struct, frozen=True):
    """Talk cannot be saved now, or can again.

    Attributes:
        text: one sentence; empty when it works again.
    """

    text: str


class Bridge:
    """Owns the engine process, the memory monitor and the session store, all off the screen's loop."""

    def __init__(self, options: ChatOptions, settings: Settings) -> None:
        """Prepare; nothing heavy is imported or started before `open`.

        Args:
            options: what the command line asks.
            settings: the person's.
        """
        self.options = options
        self.settings = settings
        self.store: SessionStore | None = None
        self.reading: MemoryReading | None = None
        self.loaded: ModelLoaded | None = None
        self.wish: LoadModel | None = None
        self.refused: LoadModel | None = None
        self._wish_before: LoadModel | None = None
        self.loading = 0
        self.load_number = 0
        self.answering = 0
        self.looking = 0
        self.usage: TurnUsage | None = None
        self.holdings = Holdings()
        self._inbox = Inbox(lambda: None)
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()
        self._opening = threading.Lock()
        self._is_closed = False
        self._engine: EngineProcess | None = None
        self._monitor: MemoryMonitor | None = None
        self._scribe: Scribe | None = None

    def open(self, wake: Callable[[], None]) -> None:
        """Start the engine process, the monitor and the store; takes a while, so not on the loop.

        Args:
            wake: called from other threads when `take` has something to give.

        Raises:
            FolderError: a folder of ours is not safely ours.
            SessionError: the store cannot be opened.
        """
        self._inbox = Inbox(wake)
        with self._opening:
            self._open_engine()
            self._open_store()
            self._open_monitor()

    def _open_engine(self) -> None:
        from engine import EngineProcess

        self._engine = EngineProcess(self._take, log=paths.engine_log(), cache=paths.cache_folder())
        self._engine.start()

    def _open_store(self) -> None:
        from sessions import SessionStore
        from tui.scribe import Scribe

        self.store = SessionStore(paths.sessions_file(), on_problem=self._tell_problem).open()
        self._scribe = Scribe(self.store)

    def _open_monitor(self) -> None:
        from engine import MemoryMonitor

        self._monitor = MemoryMonitor(self._take_reading, lambda: self.engine_pid)
        self._monitor.start()

    def take(self) -> tuple[object, ...]:
        """What came since the last time, in order: engine events, readings, problems of saving."""
        return self._inbox.take()

    @property
    def engine_pid(self) -> int | None:
        """The engine process, while there is one."""
        return self._engine.pid if self._engine is not None else None

    def load(self, wish: LoadModel) -> None:
        """Load a model in place of the one before; it is loaded again when the engine process has ended."""
        with self._lock:
            self._stop_looking()
            number = self._number()
            self._wish_before, self.wish = self.wish, wish
            self.holdings.begin()
            self.loading = self.load_number = number
            self._submit(msgspec.structs.replace(wish, turn_id=number))

    def unload(self) -> None:
        """Give the model's memory back."""
        with self._lock:
            self.loading = 0
            self._submit(UnloadModel(turn_id=self._number()))

    @property
    def is_idle(self) -> bool:
        """The engine does nothing, and may be asked what nobody waits for."""
        return self._engine is not None and not (self.answering or self.loading or self.looking)

    def dry_run(self, folder: Path) -> int:
        """Have a model built on no device; the number that DryRunDone or Failed will carry."""
        return self._look(DryRun(folder=folder))

    def measure(self) -> int:
        """Have this machine measured; the number that LimitsMeasured or Failed will carry."""
        return self._look(MeasureLimits())

    def _look(self, command: DryRun | MeasureLimits) -> int:
        with self._lock:
            self.looking = number = self._number()
            self._submit(msgspec.structs.replace(command, turn_id=number))
            return number

    def _stop_looking(self) -> None:
        """Let nobody wait for what nobody waits for."""
        if self.looking and self._engine is not None:
            self._engine.cancel(self.looking)

    def generate(
        self,
        turn: Turn,
        messages: tuple[ChatMessage, ...],
        sampling: SamplingParams,
        *,
        goes_on: bool = False,
    ) -> None:
        """Answer a conversation whose turn is committed; the reply is saved as it comes.

        Args:
            turn: what is written to.
            messages: the conversation.
            sampling: how tokens are chosen.
            goes_on: the last message is an unfinished reply, to be continued.
        """
        with self._lock:
            self._stop_looking()
            number = self._number()
            self.answering = number
            if self._scribe is not None:
                self._scribe.begin(number, turn)
            self._submit(
                Generate(turn_id=number, messages=messages, sampling=sampling, continue_reply=goes_on)
            )

    @property
    def ended_turn(self) -> Future[Turn] | None:
        """The turn that ended last, as it was saved; None while a reply is being written."""
        return self._scribe.ended if self._scribe is not None else None

    def stop(self) -> bool:
        """Stop the reply, or else the load; False when there is nothing to stop."""
        with self._lock:
            number = self.answering or self.loading
            if number and self._engine is not None:
                self._engine.cancel(number)
            return bool(number)

    def _number(self) -> int:
        return next(self._numbers)

    def _submit(self, command: AnyCommand) -> None:
        if self._engine is not None:
            self._engine.submit(command)

    def _take(self, event: AnyEvent) -> None:
        if self._is_closed:
            return
        if self._scribe is not None:
            self._scribe.take(event)
        with self._lock:
            self._follow(event)
        self._inbox.put(event)

    def _follow(self, event: AnyEvent) -> None:
        match event:
            case ModelLoaded():
                self.loaded, self.loading, self.usage = event, 0, None
            case ModelUnloaded():
                self._forget_model()
            case Failed(turn_id=number) if number == self.loading:
                self._load_failed(event)
            case TurnFinished(turn_id=number) if number == self.answering:
                self.answering, self.usage = 0, event.usage
            case MemoryLedger():
                self.holdings.take_ledger(event)
            case Failed() | DryRunDone() | LimitsMeasured() if event.turn_id == self.looking:
                self.looking = 0
            case EngineEnded():
                self._reload()
            case _:
                pass

    def _load_failed(self, event: Failed) -> None:
        self.loading = 0
        if event.error == "NeedsConsent":  # the model before is still loaded
            self.refused, self.wish = self.wish, self._wish_before
        else:
            self._forget_model()

    def _forget_model(self) -> None:
        self.loaded = None
        self.holdings.end()

    def _reload(self) -> None:
        # Only what ran before: a model that kills the engine while it loads would do so for ever.
        had_model, self.loading, self.looking = self.loaded is not None, 0, 0
        self._forget_model()
        if had_model and self.wish is not None:
            self.load(self.wish)

    def _take_reading(self, reading: MemoryReading) -> None:
        self.reading = reading
        self.holdings.take_reading(reading)
        self._inbox.put(reading, is_reading=True)

    def _tell_problem(self, problem: str) -> None:
        self._inbox.put(SavingProblem(problem))

    def close(self) -> None:
        """End the engine process and save everything; a reply in flight stays on disk as interrupted."""
        self._is_closed = True
        with self._opening:
            if self._monitor is not None:
                self._monitor.close()
            if self._engine is not None:
                self._engine.close()
            if self.store is not None:
                self.store.close()

    def abandon(self) -> None:
        """As `close`, for a program that ends now: the engine is killed, not asked."""
        self._is_closed = True
        pid = self.engine_pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.store is not None:
            self.store.close()
