"""One engine process and the screen's end of its wire; nothing here waits."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

from engine.errors import WireError
from engine.events import AnyEvent
from engine.log import open_log
from engine.packages import environment_for_modules
from engine.values import Value
from engine.wire import event_decoder

_READ_BYTES = 2**18
_READS_AT_ONCE = 16


class SpawnOptions(Value, frozen=True, kw_only=True):
    """How an engine process is started.

    Attributes:
        log: where its file descriptors 1 and 2 lead; None is nowhere.
        cache: a folder for what torch, triton and temporary files need; None leaves theirs.
        backend: "hf" or "scripted:<path>"; None leaves it to VRAMBLE_BACKEND.
        cwd: its working directory; None is this process's.
    """

    log: Path | None = None
    cache: Path | None = None
    backend: str | None = None
    cwd: Path | None = None


class Child:
    """A running engine process.

    Attributes:
        pid: its process id.
        born_at: when it was started, on the monotonic clock.
        heard_at: when it last said anything, on the monotonic clock.
        is_gone: its end of the wire is closed.
        problem: why it had to be ended; empty when all is well.
    """

    def __init__(self, options: SpawnOptions) -> None:
        """Start it from the calling thread, whose end is the process's end. Raises OSError."""
        self._socket, far = socket.socketpair()
        log = open_log(options.log)
        try:
            self._process = _popen(options, far.fileno(), log)
        except OSError:
            self._socket.close()
            raise
        finally:
            far.close()
            os.close(log)
        self._socket.setblocking(False)
        self._decoder = event_decoder()
        self._begun = memoryview(b"")
        self._outgoing: deque[bytes] = deque()
        self.pid = self._process.pid
        self.born_at = self.heard_at = time.monotonic()
        self.is_gone = False
        self.problem = ""

    def fileno(self) -> int:
        """The wire, for poll."""
        return self._socket.fileno()

    @property
    def has_outgoing(self) -> bool:
        """Something is still to be written."""
        return bool(self._begun or self._outgoing)

    def send(self, frame: bytes, *, overtakes: bool = False) -> None:
        """Write a frame, now or as the process reads; one that overtakes goes before all not begun."""
        if overtakes:
            self._outgoing.appendleft(frame)
        else:
            self._outgoing.append(frame)
        self.write()

    def write(self) -> None:
        """Write what the wire takes now."""
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while self.has_outgoing:
                self._begun = self._begun or memoryview(self._outgoing.popleft())
                self._begun = self._begun[self._socket.send(self._begun) :]

    def read(self) -> list[AnyEvent]:
        """The events that arrived; sets `is_gone` at the end of the wire and kills what talks nonsense."""
        events: list[AnyEvent] = []
        for _ in range(_READS_AT_ONCE):
            data = self._receive()
            if not data:
                break
            self.heard_at = time.monotonic()
            events += self._decode(data)
        return events

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and to what it started itself, if they are there.

        Until `bury` nobody has waited for the process, so that its number cannot be another's.
        """
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def bury(self, seconds: float = 2.0) -> int:
        """Close the wire and wait for the process; its exit code. What has not ended by then is killed."""
        self._socket.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(seconds)
        self.problem = "It closed its end of the wire and ran on."
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(seconds)
        return -signal.SIGKILL  # it sits in the kernel, where no signal reaches it yet

    def _receive(self) -> bytes:
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return b""
        except ConnectionError:
            data = b""
        self.is_gone = not data
        return data

    def _decode(self, data: bytes) -> list[AnyEvent]:
        if self.problem:
            return []
        try:
            return self._decoder.feed(data)
        except WireError as error:
            self.problem = error.message
            self.signal(signal.SIGKILL)
            return []


def _popen(options: SpawnOptions, wire: int, log: int) -> subprocess.Popen[bytes]:
    # A session of its own keeps the terminal's Ctrl+C and Ctrl+Z from it. -P keeps a folder the person
    # happens to stand in from being searched for modules.
    return subprocess.Popen(
        _arguments(options, wire),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=(wire,),
        start_new_session=True,
        cwd=options.cwd,
        env=_environment(options),
    )


def _arguments(options: SpawnOptions, wire: int) -> list[str]:
    arguments = [sys.executable, "-P", "-m", "engine.child", "--fd", str(wire), "--parent", str(os.getpid())]
    if options.log is not None:
        arguments += ["--log", str(options.log)]
    if options.cache is not None:
        arguments += ["--cache", str(options.cache)]
    return arguments


def _environment(options: SpawnOptions) -> dict[str, str]:
    environment = environment_for_modules()
    if options.backend is not None:
        environment["VRAMBLE_BACKEND"] = options.backend
    return environment
