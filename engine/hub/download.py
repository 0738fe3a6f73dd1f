"""A download in a process of its own, which may be killed at any moment; the next one goes on from there."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

from engine.downloads import (
    ENDS,
    AnyDownloadEvent,
    DownloadCancelled,
    DownloadFailed,
    DownloadPaused,
    Repository,
)
from engine.errors import EngineDied, WireError
from engine.hub.caches import cache_of
from engine.hub.staging import Staging
from engine.packages import environment_for_modules
from engine.wire import download_decoder

_READ_BYTES = 2**16
_RESUMES = "Get it again: it goes on from here."


class Download:
    """Fetches one model beside this process, which never imports a hub's library.

    The last event is one of `ENDS`, and it always comes. However this process ends, that one ends, too.

    Attributes:
        repository: what it fetches.
    """

    def __init__(self, repository: Repository, on_event: Callable[[AnyDownloadEvent], None]) -> None:
        """Prepare; nothing runs before `start`.

        Args:
            repository: what to fetch.
            on_event: takes each event, on a thread of this object; it must be quick and must not raise.
        """
        self.repository = repository
        self._on_event = on_event
        self._wish: AnyDownloadEvent | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._changing = threading.RLock()  # a signal may come while the same thread stops it
        self._thread = threading.Thread(target=self._run, name="download", daemon=True)

    @property
    def pid(self) -> int | None:
        """Its process, once there is one."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the process, or go on with what one before has left."""
        self._thread.start()

    def pause(self) -> None:
        """Stop, and keep what is here; ends with DownloadPaused, unless it had ended."""
        self._stop(DownloadPaused())

    def cancel(self) -> None:
        """Stop, and remove what it has fetched; ends with DownloadCancelled, unless it had ended."""
        self._stop(DownloadCancelled())

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the last event; false where it took longer."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _stop(self, wish: AnyDownloadEvent) -> None:
        with self._changing:
            self._wish = self._wish or wish
            if self._process is not None:
                self._kill(self._process)

    @staticmethod
    def _kill(process: subprocess.Popen[bytes]) -> None:
        # Nobody has waited for it yet, so its number cannot be another's.
        with contextlib.suppress(ProcessLookupError):
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)

    def _run(self) -> None:
        try:
            process = self._spawn()
        except OSError as error:
            message = f"The download's process cannot be started: {error.strerror}."
            self._on_event(DownloadFailed(error=EngineDied.__name__, message=message))
            return
        end = self._follow(process)
        with self._changing:
            code = process.wait()
            wish = self._wish
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
        if isinstance(wish, DownloadCancelled) and not _is_installed(end):
            discard_download(self.repository)
        self._on_event(_last(end, wish, code))

    def _spawn(self) -> subprocess.Popen[bytes]:
        """The process, in a session of its own, which keeps the terminal's Ctrl+C from it."""
        with self._changing:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "engine.hub.child", self.repository.address],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env=environment_for_modules(),
            )
            if self._wish is not None:
                self._kill(self._process)
            return self._process

    def _follow(self, process: subprocess.Popen[bytes]) -> AnyDownloadEvent | None:
        """Hand its events on until it ends; its last one, which is not handed on yet."""
        decoder = download_decoder()
        end: AnyDownloadEvent | None = None
        stream = process.stdout
        while stream is not None and (data := os.read(stream.fileno(), _READ_BYTES)):
            try:
                events = decoder.feed(data)
            except WireError as error:
                self._kill(process)
                return DownloadFailed(error=WireError.__name__, message=error.message)
            for event in events:
                if isinstance(event, ENDS):
                    end = event
                else:
                    self._on_event(event)
        return end


def discard_download(repository: Repository) -> None:
    """Remove what a download that was paused has fetched; one that another process runs is left alone."""
    Staging(cache_of(repository).root, repository).discard()


def _is_installed(end: AnyDownloadEvent | None) -> bool:
    return end is not None and not isinstance(end, DownloadFailed)


def _last(end: AnyDownloadEvent | None, wish: AnyDownloadEvent | None, code: int) -> AnyDownloadEvent:
    if end is not None and (wish is None or _is_installed(end)):
        return end
    if wish is not None:
        return wish
    cause = f"signal {-code}" if code < 0 else f"exit code {code}"
    return DownloadFailed(
        error=EngineDied.__name__, message=f"The download's process ended ({cause}).", hint=_RESUMES
    )
