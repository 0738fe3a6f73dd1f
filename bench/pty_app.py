"""A program on a pseudo-terminal: what it writes and when, what CPU it takes, and keys for it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

SIZE = (120, 40)
_SEQUENCE = re.compile(
    rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]P_^X][^\x07\x1b]*(?:\x07|\x1b\\)|[()][A-Z0-9]|[=>78MDE])"
)
_ANSWERS = {b"\x1b[6n": b"\x1b[1;1R", b"\x1b[c": b"\x1b[?62;c", b"\x1b[?u": b"\x1b[?0u"}


class Written(NamedTuple):
    """Bytes that came in one read.

    Attributes:
        at: seconds of the monotonic clock.
        data: as written.
    """

    at: float
    data: bytes


class PtyApp:
    """A child on a terminal of its own; its output is read all the time by a thread."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], size: tuple[int, int] = SIZE) -> None:
        """Start it.

        Args:
            command: program and arguments.
            env: added to the environment.
            size: columns and rows.
        """
        self.written: list[Written] = []
        self.started_at = time.monotonic()
        self._master, slave = pty.openpty()
        self.resize(size)
        self._child = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", **env},
            start_new_session=True,
        )
        os.close(slave)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._child.pid

    def _read(self) -> None:
        while True:
            try:
                if not select.select([self._master], [], [], 0.5)[0]:
                    continue
                data = os.read(self._master, 1 << 16)
            except OSError:
                return
            if not data:
                return
            self.written.append(Written(time.monotonic(), data))
            self._answer(data)

    def _answer(self, data: bytes) -> None:
        """Answer what a terminal is asked at the start."""
        for question, answer in _ANSWERS.items():
            if question in data:
                os.write(self._master, answer)

    def resize(self, size: tuple[int, int]) -> None:
        """Change the terminal's size, in columns and rows."""
        columns, rows = size
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def bytes_since(self, at: float) -> int:
        """How many bytes it wrote after a moment."""
        return sum(len(written.data) for written in self.written if written.at >= at)

    def output(self) -> bytes:
        """Everything it wrote."""
        return b"".join([written.data for written in self.written])

    def cpu_seconds(self) -> float:
        """CPU that the process took so far, all its threads together, its children's not counted."""
        total = 0
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            with contextlib.suppress(OSError):
                total += int((task / "schedstat").read_text().split()[0])
        return total / 1e9

    def wait_for(self, text: str, timeout: float = 30.0) -> float:
        """Wait until it has written `text`, sequences left out; the moment. Raises TimeoutError."""
        wanted = text.encode()
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            for written, seen in zip(list(self.written), plain(list(self.written)), strict=True):
                if wanted in seen:
                    return written.at
            time.sleep(0.01)
        raise TimeoutError(f"{text!r} did not appear; the screen said {self.output()[-2000:]!r}")

    def wait_for_quiet(self, seconds: float = 1.0, timeout: float = 30.0) -> None:
        """Wait until it has written little for some seconds."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if self.bytes_since(time.monotonic() - seconds) < 1000 * seconds:
                return
            time.sleep(0.05)

    def has_mapped(self, package: str) -> bool:
        """Whether a shared object of a Python package is mapped into the process."""
        return f"/{package}/" in Path(f"/proc/{self.pid}/maps").read_text(encoding="utf-8")

    def close(self) -> None:
        """End it, and its children with it."""
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)
            try:
                self._child.wait(5)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
        os.close(self._master)


def plain(written: Sequence[Written]) -> list[bytes]:
    """What was written without its sequences, for each read; text drawn once is not cut by colours."""
    return [_SEQUENCE.sub(b"", entry.data) for entry in written]
