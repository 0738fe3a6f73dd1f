"""Keeps one engine process alive: starts it, listens to it, stops it, names its death, starts the next."""

from __future__ import annotations

import contextlib
import queue
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from engine.commands import AnyCommand, LoadModel, Shutdown, UnloadModel
from engine.engine import failure
from engine.errors import EngineDied, LoadCancelled, WireError
from engine.events import AnyEvent, EngineEnded, EngineReady, EngineSilent, ModelLoaded, ModelUnloaded
from engine.meter import TurnMeter
from engine.obituary import Obituary, count_oom_kills, write_obituary
from engine.offload import leftovers, parent_folder, sweep
from engine.pending import Pending
from engine.spawn import Child, SpawnOptions
from engine.wire import Cancel, ToEngine, encode

SILENT_SECONDS = 5.0
_QUICK_SECONDS = 10.0
_QUICK_DEATHS = 3
_PAUSE_SECONDS = 0.5
_TERM_SECONDS = 0.4
_KILL_SECONDS = 1.5
_IDLE_WAIT = 0.5
_BUSY_WAIT = 0.02
_STUCK = EngineEnded(
    message="The engine did not stop the reply within two seconds and was ended.",
    hint="Load the model again.",
    exit_code=-signal.SIGKILL,
)


class Supervisor:
    """Everything that EngineProcess does, on the one thread that calls `run`.

    The process is started from that thread, because its parent-death signal comes when the thread ends.
    """

    def __init__(self, on_event: Callable[[AnyEvent], None], options: SpawnOptions) -> None:
        """Prepare; nothing runs before `run`."""
        self._on_event = on_event
        self._options = options
        self._inbox: queue.SimpleQueue[ToEngine] = queue.SimpleQueue()
        self._bell, self._bell_button = socket.socketpair()
        self._bell.setblocking(False)
        self._bell_button.setblocking(False)
        self._sent = 0
        self._pending = Pending()
        self._child: Child | None = None
        self._farewell: list[AnyEvent] | None = None
        self._deaths: list[float] = []
        self._starts_at: float | None = None
        self._closing_at: float | None = None
        self._oom_kills: int | None = None
        self._said_silent = 0
        self._was_given_model = False
        self._offload_parent: Path | None = None
        self._has_model = False
        self._is_ready = False

    @property
    def pid(self) -> int | None:
        """The engine process, while there is one."""
        child = self._child
        return child.pid if child is not None else None

    def post(self, message: ToEngine) -> None:
        """Hand over a message from any thread."""
        self._inbox.put(message)
        with contextlib.suppress(OSError):  # a bell that is full rings already; a closed one rings for nobody
            self._bell_button.send(b"!")

    def run(self) -> None:
        """Keep an engine process until Shutdown is posted and the process is gone."""
        self._start()
        while self._closing_at is None or self._child is not None:
            self._wait()
            self._listen()
            self._read_inbox()
            self._give()
            self._look_at_clock()
        self._emit_all(self._pending.withdraw_all(LoadCancelled("The engine was closed.")))

    def hang_up(self) -> None:
        """Give back what `post` used, once `run` has ended or will never begin."""
        self._bell.close()
        self._bell_button.close()

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        if self._child is not None:
            poll.register(self._child, select.POLLIN | (select.POLLOUT if self._child.has_outgoing else 0))
        is_busy = (
            self._farewell is not None or self._closing_at or self._starts_at or self._pending.is_stopping
        )
        poll.poll(1000 * (_BUSY_WAIT if is_busy else _IDLE_WAIT))
        with contextlib.suppress(BlockingIOError):
            self._bell.recv(4096)

    def _listen(self) -> None:
        child = self._child
        if child is None:
            return
        child.write()
        for event in child.read():
            if self._farewell is None:
                self._hear(event)
        if child.is_gone:
            self._bury(child)

    def _hear(self, event: AnyEvent) -> None:
        self._has_model = self._has_model or isinstance(event, ModelLoaded)
        self._is_ready = self._is_ready or isinstance(event, EngineReady)
        self._pending.watch(event)
        self._emit(event)

    def _read_inbox(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._take(self._inbox.get_nowait())

    def _take(self, message: ToEngine) -> None:
        if isinstance(message, Cancel):
            self._cancel(message)
        elif isinstance(message, Shutdown):
            self._close()
        elif isinstance(message, UnloadModel):
            self._unload(message)
        else:
            self._pending.add(message)
            self._start_if_resting()

    def _cancel(self, message: Cancel) -> None:
        self._pending.cancel(message.turn_id)
        if self._child is not None:
            self._child.send(encode(message), overtakes=True)

    def _unload(self, command: UnloadModel) -> None:
        unloaded = ModelUnloaded(turn_id=command.turn_id)
        error = LoadCancelled("The model was unloaded.")
        moot = self._pending.withdraw_waiting(error)
        if self._farewell is not None:
            self._emit_all(moot)
            self._farewell.append(unloaded)
        elif self._child is None or not self._was_given_model:
            self._emit_all([*moot, unloaded])
        else:
            self._end([*self._pending.withdraw_given(error), *moot], unloaded)

    def _give(self) -> None:
        if self._child is None or self._farewell is not None or self._closing_at is not None:
            return
        for command in self._pending.give():
            self._send(self._child, command)

    def _send(self, child: Child, command: AnyCommand) -> None:
        try:
            child.send(encode(command))
        except WireError as error:
            self._pending.drop(command)
            self._emit(failure(command, error, TurnMeter()))
            return
        if isinstance(command, LoadModel):
            self._was_given_model = True
            self._offload_parent = _offload_parent(command)

    def _end(self, answers: list[AnyEvent], *farewell: AnyEvent) -> None:
        """Kill the process: the answers go at once, the farewell when it is gone."""
        if self._child is not None:
            self._child.signal(signal.SIGKILL)
        self._farewell = list(farewell)
        self._emit_all(answers)

    def _look_at_clock(self) -> None:
        if self._starts_at is not None and time.monotonic() >= self._starts_at:
            self._start()
        if self._child is None or self._farewell is not None:
            return
        silence = time.monotonic() - self._child.heard_at
        self._tell_silence(silence)
        if self._closing_at is not None:
            self._press_to_close(self._child, time.monotonic() - self._closing_at)
        elif self._pending.is_overdue(is_silent=silence >= SILENT_SECONDS):
            self._end_stuck()

    def _tell_silence(self, silence: float) -> None:
        periods = int(silence / SILENT_SECONDS)
        if periods != self._said_silent:
            self._said_silent = periods
            self._emit(EngineSilent(seconds=silence if periods else 0.0))

    def _end_stuck(self) -> None:
        if isinstance(self._pending.head, LoadModel):
            farewell: list[AnyEvent] = [ModelUnloaded()] if self._has_model else []
        else:
            farewell = [_STUCK]
        self._end(self._pending.withdraw_cancelled(), *farewell)

    def _close(self) -> None:
        if self._closing_at is not None:
            return
        self._closing_at = time.monotonic()
        self._starts_at = None
        if self._child is not None:
            self._child.send(encode(Shutdown()))

    def _press_to_close(self, child: Child, seconds: float) -> None:
        if seconds > _KILL_SECONDS or self._said_silent:
            child.signal(signal.SIGKILL)
        elif seconds > _TERM_SECONDS or not self._is_ready:
            child.signal(signal.SIGTERM)

    def _start(self) -> None:
        self._starts_at = None
        self._said_silent = 0
        self._was_given_model = self._has_model = self._is_ready = False
        self._oom_kills = count_oom_kills()
        try:
            self._child = Child(self._options)
        except OSError as error:
            message = f"The engine process could not be started: {error.strerror}."
            self._mourn(Obituary(message=message, hint="Close other programs and try again."))
            return
        if self._pending.cancelled_through >= 0:
            self._child.send(encode(Cancel(turn_id=self._pending.cancelled_through)))

    def _start_if_resting(self) -> None:
        if self._child is None and self._starts_at is None and self._closing_at is None:
            self._starts_at = time.monotonic()

    def _bury(self, child: Child) -> None:
        exit_code = child.bury()
        self._sweep()
        self._tell_silence(0.0)
        farewell, self._farewell, self._child = self._farewell, None, None
        if farewell is not None:
            self._emit_all(farewell)
            self._start_if_resting()
        elif self._closing_at is None:
            self._mourn(self._obituary(child, exit_code))

    def _sweep(self) -> None:
        """Remove what a killed process rewrote for its disk tier; many gigabytes take their time."""
        parent, self._offload_parent = self._offload_parent, None
        if parent is not None and leftovers(parent):
            threading.Thread(target=sweep, args=(parent,), name="sweep").start()

    def _obituary(self, child: Child, exit_code: int) -> Obituary:
        if child.problem:
            message = f"The engine process had to be ended. {child.problem}"
            return Obituary(message=message, hint="Load the model again.", exit_code=exit_code)
        return write_obituary(exit_code, self._oom_kills, count_oom_kills())

    def _mourn(self, obituary: Obituary) -> None:
        """Tell of a death, and start anew unless there were too many of them."""
        now = time.monotonic()
        self._deaths = [moment for moment in self._deaths if now - moment < _QUICK_SECONDS] + [now]
        error = EngineDied(obituary.message, obituary.hint)
        if len(self._deaths) < _QUICK_DEATHS:
            self._starts_at = now + _PAUSE_SECONDS * (len(self._deaths) - 1)
            self._emit_all(self._pending.withdraw_given(error))
        else:
            hint = "It ended three times within ten seconds and rests now; the next command starts it again."
            obituary = msgspec.structs.replace(obituary, hint=hint)
            self._emit_all(self._pending.withdraw_all(EngineDied(obituary.message, hint)))
        self._emit(EngineEnded(**msgspec.structs.asdict(obituary)))

    def _emit(self, event: AnyEvent) -> None:
        self._sent += 1
        self._on_event(msgspec.structs.replace(event, seq=self._sent))

    def _emit_all(self, events: list[AnyEvent]) -> None:
        for event in events:
            self._emit(event)


def _offload_parent(command: LoadModel) -> Path:
    """Where the process makes a folder for the disk tier, if it needs one."""
    placement = command.placement
    chosen = placement.offload_folder if placement is not None else None
    return chosen or parent_folder(command.budgets)
