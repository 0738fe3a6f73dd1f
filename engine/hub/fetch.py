"""One download, from the listing to the installed model; runs in the process of `engine.hub.child`."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from engine.checkpoint.files import shown
from engine.downloads import (
    AnyDownloadEvent,
    Downloaded,
    DownloadListed,
    DownloadProgress,
    DownloadStage,
    Repository,
)
from engine.errors import ChecksumMismatch, DiskFull, UnsafeListing
from engine.hub.choose import Choice, choose
from engine.hub.client import Cache, Client
from engine.hub.listing import Listing, RemoteFile
from engine.hub.staging import Staging
from engine.hub.tally import Tally
from engine.hub.verify import is_right, refuse_wrong

FILES_AT_ONCE = 4
_TICK_SECONDS = 0.25
_SPARE_BYTES = 2**20
_SPARE_SHARE = 0.01

Emit = Callable[[AnyDownloadEvent], None]


class Fetch:
    """Lists, checks what is here, fetches the rest, checks every file, and installs."""

    def __init__(self, repository: Repository, client: Client, cache: Cache, emit: Emit) -> None:
        """Prepare; nothing is asked of the hub before `run`.

        Args:
            repository: what to fetch.
            client: the hub's library.
            cache: where it goes.
            emit: takes each event, from the thread of `run`.
        """
        self._client = client
        self._cache = cache
        self._emit = emit
        self._staging = Staging(cache.root, repository)
        self._tally = Tally(self._staging)

    def run(self) -> None:
        """Do all of it; the last event is Downloaded. Raises what the library raises, or a DownloadError."""
        self._emit(DownloadProgress(stage=DownloadStage.LIST))
        listing = self._client.list()
        choice = choose(listing.files)
        self._staging.open()
        self._staging.sweep(choice.wanted, resumes=self._client.resumes)
        self._tally.begin(choice.total_bytes)
        self._in_parallel(self._look, choice.wanted)
        missing = [file for file in choice.wanted if not self._tally.is_done(file)]
        have_bytes = choice.total_bytes - sum(file.size for file in missing)
        self._emit(_listed(choice, have_bytes))
        self._refuse_full_disk(missing)
        self._tally.begin_fetching()
        self._in_parallel(self._fetch, missing)
        self._install(choice, listing, fetched_bytes=choice.total_bytes - have_bytes)

    def _look(self, file: RemoteFile) -> None:
        """Take a file that is right, from the try before or from the cache."""
        with self._tally.checking(file):
            is_here = is_right(self._staging.place(file), file) or self._adopt(file)
        if is_here:
            self._tally.finish(file)

    def _adopt(self, file: RemoteFile) -> bool:
        found = self._cache.find(file)
        # A cache may have links of its own; what counts is the content behind them.
        real = found.resolve() if found is not None else None
        return real is not None and is_right(real, file) and self._staging.adopt(real, file)

    def _fetch(self, file: RemoteFile) -> None:
        with self._tally.fetching(file):
            try:
                self._fetch_once(file)
            except ChecksumMismatch:
                # One flipped bit of a proxy or a disk is not worth a person's evening.
                self._staging.drop_part(file)
                self._fetch_once(file)
        self._tally.finish(file)

    def _fetch_once(self, file: RemoteFile) -> None:
        folder = self._staging.part(file)
        folder.mkdir(parents=True, exist_ok=True)
        fetched = self._client.fetch(file, folder)
        _refuse_outside(fetched, folder, file)
        with self._tally.checking(file):
            refuse_wrong(fetched, file)
        self._staging.keep(fetched, file)

    def _refuse_full_disk(self, missing: list[RemoteFile]) -> None:
        needed = sum(file.size - self._staging.part_bytes(file) for file in missing)
        free = self._staging.free_bytes()
        if needed and needed * (1 + _SPARE_SHARE) + _SPARE_BYTES > free:
            message = (
                f"It needs {_gib(needed)} more, and the disk of {self._cache.root} has {_gib(free)} free."
            )
            raise DiskFull(message, "Free some space, or move the cache (HF_HUB_CACHE, MODELSCOPE_CACHE).")

    def _in_parallel(
        self, work: Callable[[RemoteFile], None], files: tuple[RemoteFile, ...] | list[RemoteFile]
    ) -> None:
        """Work on several files at once, tell how far it is, and stop at the first that fails."""
        pool = ThreadPoolExecutor(FILES_AT_ONCE, thread_name_prefix="file")
        pending: set[Future[None]] = {pool.submit(work, file) for file in files}
        try:
            while pending:
                done, pending = wait(pending, _TICK_SECONDS, FIRST_COMPLETED)
                for future in done:
                    future.result()
                self._emit_progress()
        finally:
            # What is under way cannot be stopped, but the process can; it ends where this raises.
            pool.shutdown(wait=not pending, cancel_futures=True)
        self._emit_progress(at_once=True)

    def _emit_progress(self, *, at_once: bool = False) -> None:
        progress = self._tally.progress(at_once=at_once)
        if progress is not None:
            self._emit(progress)

    def _install(self, choice: Choice, listing: Listing, *, fetched_bytes: int) -> None:
        self._tally.begin_installing()
        self._emit_progress(at_once=True)
        files = {file.path: self._staging.place(file) for file in choice.wanted}
        model = self._cache.install(files, listing)
        self._staging.discard()
        total_bytes = choice.total_bytes
        self._emit(Downloaded(model=model, fetched_bytes=fetched_bytes, total_bytes=total_bytes))


def _listed(choice: Choice, have_bytes: int) -> DownloadListed:
    return DownloadListed(
        files=len(choice.wanted), total_bytes=choice.total_bytes, have_bytes=have_bytes, notes=choice.notes
    )


def _refuse_outside(fetched: Path, folder: Path, file: RemoteFile) -> None:
    """The library put the file where it was told to, and not somewhere that a link leads to."""
    if not fetched.resolve().is_relative_to(folder.resolve()):
        message = f"{shown(file.path)} was written outside its folder."
        raise UnsafeListing(message, "Nothing of it is used.")


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
