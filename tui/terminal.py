"""The terminal as this program holds it: a driver that never waits for it, and what gives it back."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from textual.drivers._writer_thread import WriterThread
from textual.drivers.linux_driver import LinuxDriver

if TYPE_CHECKING:
    from collections.abc import Callable

Attributes = list[Any]

_MODES_OFF = "".join(
    f"\x1b[?{mode}l" for mode in (1000, 1002, 1003, 1006, 1015, 1016, 2004, 1004, 2048, 2026)
)
RESTORE = f"{_MODES_OFF}\x1b[<u\x1b[?1049l\x1b[?7h\x1b[?25h\x1b[0m"
"""Every mode off that a screen may have switched on, the kitty keyboard popped, the cursor on."""

_CANCEL = "\x18"
_MOST_WAITING = 256 * 1024
_STOP_SECONDS = 0.5
_USUAL_SIZE = (80, 24)


class LossyWriter(WriterThread):
    """Writes frames to the terminal; drops them while it does not read, and never waits for it.

    Textual's own writer holds 30 writes and then blocks the event loop.
    """

    def __init__(self, fileno: int, on_caught_up: Callable[[], None]) -> None:
        """Write to a file descriptor.

        Args:
            fileno: of the terminal.
            on_caught_up: called from the writing thread once all is written after frames were dropped.
        """
        super().__init__(sys.__stderr__ or sys.stderr)
        self._fileno = fileno
        self._on_caught_up = on_caught_up
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._dropped = False
        self._stopped = False
        self._changed = threading.Condition()

    def write(self, text: str) -> None:
        """Enqueue text; drop it while too much is waiting."""
        encoded = text.encode("utf-8", "replace")
        with self._changed:
            if self._dropped or self._waiting_bytes > _MOST_WAITING:
                self._dropped = True
                return
            self._waiting.append(encoded)
            self._waiting_bytes += len(encoded)
            self._changed.notify()

    def run(self) -> None:
        """Write until stopped, or until the terminal is gone."""
        with contextlib.suppress(OSError):
            while (batch := self._next_batch()) is not None:
                self._write_all(batch)
                self._report_caught_up()

    def _next_batch(self) -> bytes | None:
        with self._changed:
            while not self._waiting and not self._stopped:
                self._changed.wait()
            if not self._waiting:
                return None
            batch = b"".join(self._waiting)
            self._waiting.clear()
            return batch

    def _write_all(self, batch: bytes) -> None:
        view = memoryview(batch)
        while view:
            written = os.write(self._fileno, view)
            view = view[written:]
            with self._changed:
                self._waiting_bytes -= written

    def _report_caught_up(self) -> None:
        with self._changed:
            if not self._dropped or self._waiting:
                return
            self._dropped = False
        self._on_caught_up()

    def stop(self) -> None:
        """Write what waits and end the thread; leave it behind when the terminal does not read."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self.join(_STOP_SECONDS)


class TerminalDriver(LinuxDriver):
    """Textual's driver with a writer that drops frames on a stalled terminal, then paints afresh."""

    @property
    def _writer_thread(self) -> LossyWriter | None:
        return self._writer

    @_writer_thread.setter
    def _writer_thread(self, theirs: WriterThread | None) -> None:
        self._writer: LossyWriter | None = None
        if theirs is not None:
            self._writer = LossyWriter(terminal_fileno(), self._paint_afresh)

    def _get_terminal_size(self) -> tuple[int, int]:
        # The terminal's own word: COLUMNS and LINES may be a parent's, and stdout may go elsewhere.
        try:
            columns, rows = os.get_terminal_size(terminal_fileno())
        except OSError:
            columns, rows = 0, 0
        return columns or _USUAL_SIZE[0], rows or _USUAL_SIZE[1]

    def _paint_afresh(self) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._refresh_screen)

    def _refresh_screen(self) -> None:
        if self._app.screen_stack:
            self._app.screen.refresh()


def terminal_fileno() -> int:
    """The file descriptor that leads to the terminal: stderr's, unless it goes elsewhere."""
    return next((number for number in (2, 1, 0) if os.isatty(number)), 2)


def read_attributes(fileno: int) -> Attributes | None:
    """The terminal's line settings; None where there is no terminal."""
    try:
        return termios.tcgetattr(fileno)
    except (termios.error, ValueError):
        return None


def give_back(fileno: int, attributes: Attributes | None) -> None:
    """Restore modes and line settings without waiting for a terminal that does not read.

    Output that it has not read is dropped: it belongs to the screen that ends.
    """
    text = RESTORE
    with contextlib.suppress(termios.error, OSError, ValueError):
        if not _takes_output(fileno):
            termios.tcflush(fileno, termios.TCOFLUSH)
            text = _CANCEL + RESTORE
        if _takes_output(fileno):
            os.write(fileno, text.encode())
    with contextlib.suppress(termios.error, OSError, ValueError):
        if attributes is not None:
            termios.tcsetattr(fileno, termios.TCSANOW, attributes)


def _takes_output(fileno: int) -> bool:
    return bool(select.select([], [fileno], [], 0)[1])
