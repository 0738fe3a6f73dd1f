"""`vramble pull`: get a model from a hub, or go on where that was stopped."""

from __future__ import annotations

import argparse
import queue
import signal
import sys
import time

import engine
from engine import downloads
from tui.downloading import listed_words, progress_words
from tui.format import format_size
from tui.verbs import output
from tui.verbs.progress import ProgressLine

_SECONDS_BETWEEN_LINES = 10.0
_EVENTS = {
    downloads.DownloadListed: "listed",
    downloads.DownloadProgress: "progress",
    downloads.Downloaded: "installed",
    downloads.DownloadFailed: "failed",
    downloads.DownloadPaused: "paused",
    downloads.DownloadCancelled: "cancelled",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `vramble pull` takes."""
    parser.add_argument(
        "repository", metavar="[hf:|ms:]OWNER/NAME[@REVISION]", help="a model on Hugging Face or ModelScope"
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON document a line on stdout for everything that happens"
    )


def run(arguments: argparse.Namespace) -> int:
    """Fetch it, and tell how far it is; Ctrl+C pauses."""
    repository = engine.parse_repository(arguments.repository)
    heard: queue.SimpleQueue[downloads.AnyDownloadEvent] = queue.SimpleQueue()
    download = engine.Download(repository, heard.put)
    before = signal.signal(signal.SIGINT, lambda _number, _frame: download.pause())
    teller = JsonTeller() if arguments.json else Teller(repository)
    try:
        download.start()
        while not isinstance(event := heard.get(), downloads.ENDS):
            teller.tell(event)
        teller.tell(event)
    finally:
        signal.signal(signal.SIGINT, before)
    return 0 if isinstance(event, downloads.Downloaded) else 1


class JsonTeller:
    """Writes every event as one line of JSON."""

    def tell(self, event: downloads.AnyDownloadEvent) -> None:
        """Write one event."""
        output.write_json_line({"event": _EVENTS[type(event)], **output.plain(event)})


class Teller:
    """Writes sentences on stdout; on stderr how far it is: on a terminal one line, else one now and then."""

    def __init__(self, repository: downloads.Repository) -> None:
        """Begin quietly."""
        self._address = repository.address
        self._line = ProgressLine()
        self._is_terminal = sys.stderr.isatty()
        self._next_at = time.monotonic() + _SECONDS_BETWEEN_LINES

    def tell(self, event: downloads.AnyDownloadEvent) -> None:
        """Tell one event."""
        if isinstance(event, downloads.DownloadProgress):
            self._progress(event)
            return
        self._line.clear()
        match event:
            case downloads.DownloadListed():
                output.write_line(f"{self._address}: {listed_words(event)}.")
                for note in event.notes:
                    output.write_line(f"- {note}")
            case downloads.Downloaded():
                self._installed(event)
            case downloads.DownloadFailed():
                output.complain(event.message, event.hint)
            case downloads.DownloadPaused() | downloads.DownloadCancelled():
                output.complain("Paused.", f"`vramble pull {self._address}` goes on from here.")

    def _progress(self, progress: downloads.DownloadProgress) -> None:
        words = progress_words(progress)
        if self._is_terminal:
            self._line.show(words)
        elif time.monotonic() >= self._next_at:
            self._next_at = time.monotonic() + _SECONDS_BETWEEN_LINES
            output.tell_progress(words)

    def _installed(self, event: downloads.Downloaded) -> None:
        size = format_size(event.total_bytes)
        came = "all of it was here" if not event.fetched_bytes else f"{format_size(event.fetched_bytes)} came"
        output.write_line(f"{event.model.name} is installed, and every checksum holds: {size}, {came}.")
        output.write_line(f"`vramble {self._address[:3]}{event.model.name}` opens a chat with it.")
