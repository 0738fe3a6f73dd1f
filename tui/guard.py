"""The terminal guard: whatever ends this program, the terminal is given back and the text is saved."""

from __future__ import annotations

import os
import select
import signal
import threading
from typing import TYPE_CHECKING

from tui.terminal import give_back, read_attributes, terminal_fileno

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
LEAVE_SECONDS = 1.2
"""After a wish to leave, the orderly way has this long; then the process ends at once."""

_EXIT_ON_SIGNAL = 128


class TerminalGuard:
    """Watches for signals and for a terminal that is gone; ends the process when nothing else does."""

    def __init__(self, save: Callable[[], None]) -> None:
        """Remember the terminal as it is now.

        Args:
            save: saves text and ends children; called from any thread, more than once, never slow.
        """
        self._save = save
        self._fileno = terminal_fileno()
        self._attributes = read_attributes(self._fileno)
        self._ending = threading.Lock()
        self.exit_code = 0

    def watch_signals(self, loop: asyncio.AbstractEventLoop, leave: Callable[[], None]) -> None:
        """Turn signals into an orderly exit.

        Args:
            loop: the screen's.
            leave: asks the screen to end; called on the loop.
        """
        for number in SIGNALS:
            if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue
            loop.add_signal_handler(number, self._obey, number, leave)

    def _obey(self, number: signal.Signals, leave: Callable[[], None]) -> None:
        self.exit_code = _EXIT_ON_SIGNAL + number
        self.expect_end()
        leave()

    def expect_end(self) -> None:
        """The screen is about to end; see to it when it gets stuck."""
        timer = threading.Timer(LEAVE_SECONDS, self.end_now)
        timer.daemon = True
        timer.start()

    def watch_terminal(self) -> None:
        """End the process as soon as the terminal is gone; costs nothing while it is there."""
        if self._attributes is not None:
            threading.Thread(target=self._wait_for_hangup, name="terminal-watch", daemon=True).start()

    def _wait_for_hangup(self) -> None:
        poll = select.poll()
        poll.register(self._fileno, 0)
        while not poll.poll():
            pass
        self.exit_code = _EXIT_ON_SIGNAL + signal.SIGHUP
        self.end_now()

    def end_now(self) -> None:
        """Give the terminal back, save, and end the process from whatever thread this is."""
        with self._ending:
            try:
                give_back(self._fileno, self._attributes)
                self._save()
            finally:
                os._exit(self.exit_code)
