"""How far the download is, in the list of models; one line that looks a few times a second."""

from __future__ import annotations

from textual.message import Message

from engine.downloads import DownloadCancelled, Downloaded, DownloadFailed, DownloadPaused
from tui.downloading import Downloading, progress_words
from tui.screens.dialog import Line

_LOOK_SECONDS = 0.25


class DownloadLine(Line):
    """Shows the download that is under way, and how the last one ended."""

    class Changed(Message):
        """A download began or ended.

        Attributes:
            installed: the name of the model that is there now; empty for any other change.
        """

        def __init__(self, installed: str = "") -> None:
            """Say what is there now."""
            super().__init__()
            self.installed = installed

    def __init__(self, downloading: Downloading) -> None:
        """Look at this one."""
        super().__init__(id="download")
        self._downloading = downloading
        self._was_running = downloading.is_running
        self._seen_end = downloading.end
        self._words = ""

    def on_mount(self) -> None:
        """Begin to look; how one ended before the list was opened is told where it can be gone on with."""
        if self._downloading.is_paused:
            self._tell_end()
        self._look()
        self.set_interval(_LOOK_SECONDS, self._look)

    def _look(self) -> None:
        is_running, end = self._downloading.is_running, self._downloading.end
        if is_running:
            self._show(self._running_words())
        # One that began and ended between two looks has ended all the same.
        if is_running != self._was_running or end is not self._seen_end:
            self._was_running, self._seen_end = is_running, end
            self._tell_end()
            self.post_message(self.Changed(end.model.name if isinstance(end, Downloaded) else ""))

    def _running_words(self) -> str:
        progress = self._downloading.progress
        return f"{self._address}: {progress_words(progress) if progress else 'starting'}"

    @property
    def _address(self) -> str:
        repository = self._downloading.repository
        return repository.address if repository else ""

    def _tell_end(self) -> None:
        match self._downloading.end:
            case Downloaded(model=model):
                self._show(f"{model.name} is installed, and every checksum holds.")
            case DownloadFailed(message=message, hint=hint):
                self._show(f"{self._address}: {message} {hint}".strip(), is_warning=True)
            case DownloadPaused():
                self._show(f"{self._address} is paused: F4 goes on, F6 removes what it has fetched.")
            case DownloadCancelled():
                self._show(f"{self._address} is given up, and what it had fetched is removed.")
            case _:
                pass

    def _show(self, words: str, *, is_warning: bool = False) -> None:
        # The same words cost nothing over a slow link.
        if words != self._words:
            self._words = words
            self.say(words, is_warning=is_warning)
