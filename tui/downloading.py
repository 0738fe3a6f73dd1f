"""How far a download is, in words; and the one that the screen has under way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.downloads import (
    ENDS,
    AnyDownloadEvent,
    DownloadCancelled,
    DownloadListed,
    DownloadPaused,
    DownloadProgress,
    DownloadStage,
    Repository,
)
from tui.format import format_duration, format_rate, format_size, format_used

if TYPE_CHECKING:
    from engine import Download

_STAGES = {
    DownloadStage.LIST: "asking the hub what is there",
    DownloadStage.CHECK: "checking what is here",
    DownloadStage.FETCH: "fetching",
    DownloadStage.INSTALL: "installing",
}


def progress_words(progress: DownloadProgress) -> str:
    """One line: "fetching 1.2 / 15.3 GiB · 45 MB/s · 5 min 20 s left · model.safetensors 34 %"."""
    parts = [_STAGES[progress.stage]]
    if progress.total_bytes and progress.stage is not DownloadStage.LIST:
        parts[0] += f" {format_used(progress.done_bytes, progress.total_bytes)}"
    if progress.stage is DownloadStage.FETCH:
        parts += _pace_words(progress)
    parts += [
        f"{file.path} {'checking' if file.is_checking else _percent(file.done_bytes, file.total_bytes)}"
        for file in progress.files
        if file.total_bytes
    ]
    return " · ".join(parts)


def _pace_words(progress: DownloadProgress) -> list[str]:
    if progress.silent_seconds:
        return [f"nothing has come for {format_duration(progress.silent_seconds)}"]
    parts = [format_rate(progress.bytes_per_second)] if progress.bytes_per_second else []
    if progress.seconds_left:
        parts.append(f"{format_duration(progress.seconds_left)} left")
    return parts


def _percent(done_bytes: int, total_bytes: int) -> str:
    return f"{100 * done_bytes // total_bytes} %"


def listed_words(listed: DownloadListed) -> str:
    """What there is to fetch: "4 files, 15.3 GiB, of which 3.1 GiB are here"."""
    files = "1 file" if listed.files == 1 else f"{listed.files:,} files"
    words = f"{files}, {format_size(listed.total_bytes)}"
    return f"{words}, of which {format_size(listed.have_bytes)} are here" if listed.have_bytes else words


class Downloading:
    """At most one download of the screen's process; it goes on while the picker is closed.

    Attributes:
        repository: the last one that was asked for; None before.
        progress: of the one under way.
        end: how the last one ended; None while it runs.
    """

    def __init__(self, on_end: Callable[[AnyDownloadEvent], None] = lambda _: None) -> None:
        """Begin with none.

        Args:
            on_end: takes the last event of each, on a thread of the download.
        """
        self.repository: Repository | None = None
        self.progress: DownloadProgress | None = None
        self.end: AnyDownloadEvent | None = None
        self._on_end = on_end
        self._download: Download | None = None
        self._lock = threading.Lock()

    @property
    def is_running(self) -> bool:
        """One is under way."""
        return self._download is not None and self.end is None

    @property
    def is_paused(self) -> bool:
        """The last one was paused, and has not been gone on with."""
        return isinstance(self.end, DownloadPaused)

    def start(self, repository: Repository) -> None:
        """Begin one, or go on with it; nothing happens while another runs."""
        from engine import Download

        with self._lock:
            if not self.is_running:
                self.repository, self.progress, self.end = repository, None, None
                self._download = Download(repository, self._hear)
                self._download.start()

    def pause(self) -> None:
        """Stop it, and keep what is here."""
        if self._download is not None and self.is_running:
            self._download.pause()

    def cancel(self) -> None:
        """Stop it, or give a paused one up, and remove what it has fetched."""
        from engine import discard_download

        if self._download is not None and self.is_running:
            self._download.cancel()
        elif self.repository is not None and self.is_paused:
            discard_download(self.repository)
            self.end = DownloadCancelled()

    def _hear(self, event: AnyDownloadEvent) -> None:
        if isinstance(event, DownloadProgress):
            self.progress = event
        elif isinstance(event, ENDS):
            self.end = event
            self._on_end(event)
