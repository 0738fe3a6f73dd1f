"""The one thread that owns the model."""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable

from engine.backend import Backend, Cancelled
from engine.commands import (
    AnyCommand,
    DryRun,
    Generate,
    Inspect,
    LoadModel,
    MeasureLimits,
    PlanLoad,
    Shutdown,
    UnloadModel,
)
from engine.errors import EngineError, EngineFault, LoadCancelled, NoModelLoaded, OutOfMemory
from engine.events import (
    AnyEvent,
    EngineReady,
    Event,
    Failed,
    ModelLoaded,
    ModelUnloaded,
    TurnFinished,
)
from engine.meter import TurnMeter
from engine.outbox import Outbox
from engine.values import FinishReason

_LOG = logging.getLogger(__name__)
_Looking = Inspect | DryRun | MeasureLimits | PlanLoad
_Answered = _Looking | LoadModel | Generate | UnloadModel


class Engine:
    """Runs commands one after the other on its own thread; what comes of them are events.

    `submit` and `cancel` return at once, from any thread. Events come from the engine's threads, one at a
    time, numbered from 1, and none after `close` has returned.
    """

    def __init__(self, backend_factory: Callable[[], Backend], on_event: Callable[[AnyEvent], None]) -> None:
        """Prepare; nothing runs before `start`.

        Args:
            backend_factory: called on the engine thread, so that heavy imports happen there.
            on_event: takes each event; it must be quick and must not raise.
        """
        self._make_backend = backend_factory
        self._made: Backend | None = None
        self._has_model = False
        self._meter = TurnMeter()
        self._commands: queue.SimpleQueue[AnyCommand] = queue.SimpleQueue()
        self._cancelled_through = -1
        self._cancelling = threading.Lock()
        self._outbox = Outbox(on_event)
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Start the thread, which makes the backend and sends EngineReady."""
        self._thread.start()

    def submit(self, command: AnyCommand) -> None:
        """Queue a command. Shutdown cancels everything before it; what follows it is not answered."""
        if isinstance(command, Shutdown):
            self.cancel(sys.maxsize)
        self._commands.put(command)

    def cancel(self, turn_id: int) -> None:
        """Stop the command of that number and every earlier one, whether or not it has begun."""
        with self._cancelling:
            self._cancelled_through = max(self._cancelled_through, turn_id)

    def close(self) -> None:
        """Cancel everything, give the model back, and wait for the thread to end."""
        self.submit(Shutdown())
        if self._thread.ident is not None:
            self._thread.join()
        self._outbox.close()

    def _run(self) -> None:
        self._guarded(self._backend)
        self._outbox.send(EngineReady(pid=os.getpid()), 0)
        while not isinstance(command := self._commands.get(), Shutdown):
            self._answer(command)
        if self._made is not None:
            self._guarded(self._made.unload)

    def _backend(self) -> Backend:
        if self._made is None:
            self._made = self._make_backend()
        return self._made

    def _answer(self, command: _Answered) -> None:
        self._meter = TurnMeter()
        error = self._guarded(lambda: self._perform(command))
        if error is not None and not self._meter.is_finished:
            self._send(failure(command, error, self._meter), command)

    def _guarded(self, action: Callable[[], object]) -> EngineError | None:
        try:
            action()
        except EngineError as error:
            return error
        except Exception as error:  # noqa: BLE001 - whatever a model's libraries raise, the thread lives on
            return _fault(error)
        return None

    def _perform(self, command: _Answered) -> None:
        if self._watcher(command)() and not isinstance(command, UnloadModel):
            raise LoadCancelled("It was stopped before it began.")
        match command:
            case LoadModel():
                self._load(command)
            case Generate():
                self._generate(command)
            case UnloadModel():
                self._unload(command)
            case _:
                self._send(self._looked(command), command)

    def _looked(self, command: _Looking) -> Event:
        backend = self._backend()
        match command:
            case Inspect():
                return backend.inspect(command)
            case DryRun():
                return backend.dry_run(command)
            case MeasureLimits():
                return backend.measure_limits(self._watcher(command))
            case PlanLoad():
                return backend.plan(command)

    def _load(self, command: LoadModel) -> None:
        had_model, self._has_model = self._has_model, False
        try:
            loaded = self._loaded(command)
            self._has_model = True
        finally:
            # The model before was dropped for this one; its end answers no command.
            if had_model and not self._has_model:
                self._outbox.send(ModelUnloaded(), 0)
        self._send(loaded, command)

    def _loaded(self, command: LoadModel) -> ModelLoaded:
        cancelled = self._watcher(command)
        loaded = self._backend().load(command, lambda event: self._send(event, command), cancelled)
        if cancelled():
            self._backend().unload()
            raise LoadCancelled("The load was stopped.")
        return loaded

    def _generate(self, command: Generate) -> None:
        if not self._has_model:
            raise NoModelLoaded("No model is loaded.", "Choose one with Ctrl+O.")
        for event in self._backend().generate(command, self._watcher(command)):
            self._meter.watch(event)
            self._send(event, command)
        if not self._meter.is_finished:
            raise EngineFault("The reply broke off without a reason.", "Ask again.")

    def _unload(self, command: UnloadModel) -> None:
        self._has_model = False
        self._backend().unload()
        self._send(ModelUnloaded(), command)

    def _send(self, event: Event, command: AnyCommand) -> None:
        self._outbox.send(event, command.turn_id)

    def _watcher(self, command: AnyCommand) -> Cancelled:
        return lambda: command.turn_id <= self._cancelled_through


def failure(command: AnyCommand, error: EngineError, meter: TurnMeter) -> TurnFinished | Failed:
    """The event that answers a command which ended with that error."""
    turn_id, name, message, hint = command.turn_id, type(error).__name__, error.message, error.hint
    if not isinstance(command, Generate):
        return Failed(turn_id=turn_id, error=name, message=message, hint=hint)
    usage = meter.usage()
    if isinstance(error, LoadCancelled):
        return TurnFinished(turn_id=turn_id, finish_reason=FinishReason.CANCELLED, usage=usage)
    reason = FinishReason.FAILED
    return TurnFinished(
        turn_id=turn_id, finish_reason=reason, usage=usage, message=message, hint=hint, error=name
    )


def _fault(error: Exception) -> EngineError:
    # The exception's own text may quote a prompt: the screen shows it, the log never sees it.
    _LOG.error("%s\n%s", type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
    if isinstance(error, MemoryError):
        return OutOfMemory("The engine ran out of RAM.", "Try a shorter context, nf4, or a smaller model.")
    first_line = str(error).strip().partition("\n")[0]
    return EngineFault(f"The engine met {type(error).__name__}: {first_line}", "The log names the place.")
