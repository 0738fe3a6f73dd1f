"""How far every file of a download is, told by the threads that work on them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from engine.downloads import DownloadProgress, DownloadStage, FileProgress
from engine.hub.listing import RemoteFile
from engine.hub.pace import Pace
from engine.hub.staging import Staging

_BETWEEN_SECONDS = 0.25
_SILENT_SECONDS = 10.0


class Tally:
    """Knows which files are done, and looks at the disk for those under way, whoever fetches them."""

    def __init__(self, staging: Staging) -> None:
        """Begin without files."""
        self._staging = staging
        self._stage = DownloadStage.CHECK
        self._total_bytes = 0
        self._done: dict[str, int] = {}
        self._active: dict[str, RemoteFile] = {}
        self._checking: dict[str, RemoteFile] = {}
        self._pace = Pace()
        self._next_at = 0.0
        self._lock = threading.Lock()

    def begin(self, total_bytes: int) -> None:
        """Files of so many bytes are looked for."""
        self._total_bytes = total_bytes

    def begin_fetching(self) -> None:
        """What is not done is fetched from here on."""
        self._stage = DownloadStage.FETCH

    def begin_installing(self) -> None:
        """All files are done."""
        self._stage = DownloadStage.INSTALL

    def finish(self, file: RemoteFile) -> None:
        """The file is right and in its place."""
        with self._lock:
            self._done[file.path] = file.size

    def is_done(self, file: RemoteFile) -> bool:
        """It was finished."""
        return file.path in self._done

    @contextmanager
    def fetching(self, file: RemoteFile) -> Iterator[None]:
        """The file is under way in this block."""
        with self._noted(self._active, file):
            yield

    @contextmanager
    def checking(self, file: RemoteFile) -> Iterator[None]:
        """The file's checksum is computed in this block."""
        with self._noted(self._checking, file):
            yield

    @contextmanager
    def _noted(self, where: dict[str, RemoteFile], file: RemoteFile) -> Iterator[None]:
        with self._lock:
            where[file.path] = file
        try:
            yield
        finally:
            with self._lock:
                del where[file.path]

    def progress(self, *, at_once: bool = False) -> DownloadProgress | None:
        """How far it is; None where that was told just now."""
        now = time.monotonic()
        if now < self._next_at and not at_once:
            return None
        self._next_at = now + _BETWEEN_SECONDS
        files = self._under_way()
        with self._lock:
            done_bytes = sum(self._done.values()) + sum(file.done_bytes for file in files)
        if self._stage is not DownloadStage.FETCH:
            return self._told(done_bytes, files)
        self._pace.note(now, done_bytes)
        waits = any(not file.is_checking for file in files)
        silent_seconds = self._pace.silent_seconds(now) if waits else 0.0
        return self._told(done_bytes, files, silent_seconds if silent_seconds > _SILENT_SECONDS else 0.0)

    def _told(
        self, done_bytes: int, files: tuple[FileProgress, ...], silent_seconds: float = 0.0
    ) -> DownloadProgress:
        done_bytes = min(done_bytes, self._total_bytes)
        return DownloadProgress(
            stage=self._stage,
            done_bytes=done_bytes,
            total_bytes=self._total_bytes,
            bytes_per_second=self._pace.bytes_per_second,
            seconds_left=self._pace.seconds_left(self._total_bytes - done_bytes),
            silent_seconds=silent_seconds,
            files=files,
        )

    def _under_way(self) -> tuple[FileProgress, ...]:
        with self._lock:
            active = {**self._active, **self._checking}
            checking = set(self._checking)
            done = set(self._done)
        return tuple(
            FileProgress(
                path=file.path,
                done_bytes=self._staging.part_bytes(file) if path in self._active else 0,
                total_bytes=file.size,
                is_checking=path in checking,
            )
            for path, file in active.items()
            if path not in done
        )
