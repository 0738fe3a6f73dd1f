"""The real program on a pty: what it writes, what the terminal would show, and how it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pyte

ROOT = Path(__file__).parent.parent
PROGRAM = (sys.executable, "-m", "tui")
_MODE = re.compile(rb"\x1b\[\?([0-9;]+)([hl])")


class Terminal:
    """A program on a pty, and a terminal that reads it.

    The slave side stays open here, so that its line settings can be read after the program's end.
    """

    def __init__(
        self,
        arguments: Sequence[str] = PROGRAM,
        *,
        env: Mapping[str, str] | None = None,
        columns: int = 120,
        rows: int = 40,
        before_exec: Callable[[], None] | None = None,
    ) -> None:
        self.raw = bytearray()
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self._before_exec = before_exec
        self.master, self.slave = pty.openpty()
        self.resize(columns, rows)
        self.attributes_before = termios.tcgetattr(self.slave)
        self.started_at = time.monotonic()
        self.pid = self._spawn(arguments, dict(env or {}))

    def _spawn(self, arguments: Sequence[str], env: dict[str, str]) -> int:
        full_env = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "PYTHONPATH": str(ROOT)}
        for name in ("TMUX", "NO_COLOR", "SSH_TTY", "COLUMNS", "LINES"):
            full_env.pop(name, None)
        full_env.update(env)
        pid = os.fork()
        if pid:
            return pid
        with contextlib.suppress(BaseException):
            self._become(arguments, full_env)
        os._exit(127)

    def _become(self, arguments: Sequence[str], env: dict[str, str]) -> None:
        os.setsid()
        fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)
        for number in range(3):
            os.dup2(self.slave, number)
        os.closerange(3, 256)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        if self._before_exec is not None:
            self._before_exec()
        os.execvpe(arguments[0], list(arguments), env)

    def read(self, seconds: float) -> None:
        """Take in what the program writes for that long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not self._read_once(left):
                return

    def _read_once(self, seconds: float) -> bool:
        if not select.select([self.master], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self.master, 1 << 16)
        except OSError:
            return False
        self.raw += data
        # pyte knows neither the kitty keyboard nor mode queries, and would print their letters.
        self._stream.feed(re.sub(rb"\x1b\[[<>=?][0-9;]*u|\x1b\[\?[0-9;]*\$p", b"", data))
        return True

    def wait_until(self, holds: Callable[[], bool], what: str, seconds: float = 20) -> None:
        """Read until something holds; fail with the screen when it does not in time."""
        end = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > end:
                raise AssertionError(f"{what} did not come in {seconds} s:\n{self.text}")
            self.read(0.03)

    def wait_for(self, text: str, seconds: float = 20) -> None:
        """Read until the text is on the screen."""
        self.wait_until(lambda: text in self.text, repr(text), seconds)

    def send(self, keys: str) -> None:
        """Type; control characters are keys."""
        os.write(self.master, keys.encode())

    def resize(self, columns: int, rows: int) -> None:
        """Give the terminal another size, as a window that is dragged does."""
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen.resize(rows, columns)

    @property
    def text(self) -> str:
        """The screen's lines, trailing space cut."""
        return "\n".join(line.rstrip() for line in self.screen.display)

    @property
    def attributes(self) -> list[Any]:
        """The line settings now."""
        attributes: list[Any] = termios.tcgetattr(self.slave)
        return attributes

    def modes_on(self) -> set[int]:
        """Private modes that were switched on last, not off."""
        on: set[int] = set()
        for found in _MODE.finditer(bytes(self.raw)):
            for mode in map(int, found[1].split(b";")):
                (on.add if found[2] == b"h" else on.discard)(mode)
        return on

    def kitty_depth(self) -> int:
        """Kitty keyboard flags pushed and not popped."""
        return self.raw.count(b"\x1b[>") - self.raw.count(b"\x1b[<u")

    def children(self) -> list[psutil.Process]:
        """Processes that the program started and that live."""
        with contextlib.suppress(psutil.NoSuchProcess):
            found: list[psutil.Process] = psutil.Process(self.pid).children(recursive=True)
            return found
        return []

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to the program alone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self, seconds: float = 5, *, reading: bool = True) -> int:
        """Wait for the end; returns the exit code, negative for a signal."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                if reading:
                    self.read(0.05)
                return os.waitstatus_to_exitcode(status)
            if reading:
                self.read(0.02)
            else:
                time.sleep(0.02)
        raise AssertionError(f"the program still runs after {seconds} s:\n{self.text}")

    def close_master(self) -> None:
        """What a lost link or a closed window does."""
        os.close(self.slave)
        os.close(self.master)
        self.master = self.slave = -1

    def close(self) -> None:
        """End the program whatever it does, and give the pty back."""
        self.kill()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        for descriptor in (self.master, self.slave):
            if descriptor >= 0:
                os.close(descriptor)


@contextlib.contextmanager
def terminal(*arguments: str, **options: Any) -> Iterator[Terminal]:
    """The program with these arguments on a pty; ended on leaving."""
    opened = Terminal((*PROGRAM, *arguments), **options)
    try:
        yield opened
    finally:
        opened.close()


def gone_within(processes: Sequence[psutil.Process], seconds: float) -> bool:
    """True when none of the processes lives any more after at most that long."""
    _, alive = psutil.wait_procs(list(processes), timeout=seconds)
    return all(process.status() == psutil.STATUS_ZOMBIE for process in alive)
