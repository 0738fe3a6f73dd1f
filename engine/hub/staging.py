"""Where a download lies until every checksum holds: beside the cache's models, on the same disk."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from engine.downloads import Repository
from engine.errors import DownloadBusy
from engine.hub.listing import RemoteFile

FOLDER = ".vramble"
_FORGOTTEN_SECONDS = 14 * 86400
"""After so long a paused download is taken for forgotten."""


class Staging:
    """One download's files: those under way in `parts`, each in its own folder, and those that are right.

    Attributes:
        folder: all of it.
    """

    def __init__(self, root: Path, repository: Repository) -> None:
        """Name the folder; nothing is made before `open`.

        Args:
            root: of the cache, whose disk it is to lie on.
            repository: what is fetched.
        """
        digest = hashlib.sha256(repository.address.encode()).hexdigest()[:16]
        self._all = root / FOLDER
        self.folder = self._all / f"{repository.repo_id.replace('/', '--')[:80]}-{digest}"
        self._lock = -1

    def open(self) -> None:
        """Make the folder and hold it until this process ends; remove what others have forgotten there.

        Raises:
            DownloadBusy: another process holds it.
            OSError: it cannot be made.
        """
        self._hold()
        os.utime(self.folder / "lock")
        for stale in self._forgotten():
            shutil.rmtree(stale, ignore_errors=True)

    def _hold(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(
            self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._let_go()
            hint = "Wait for it, or stop it first."
            raise DownloadBusy("Another process is fetching the same model.", hint) from None
        if not os.path.exists(self.folder / "lock"):
            # It was removed between our opening it and our holding it.
            self._let_go()
            self._hold()

    def _let_go(self) -> None:
        os.close(self._lock)
        self._lock = -1

    def discard(self) -> None:
        """Remove all of it, unless another process holds it."""
        with contextlib.suppress(DownloadBusy, OSError):
            if self._lock < 0:
                self._hold()
            self._remove(self.folder)
            self._let_go()
            self._all.rmdir()

    @staticmethod
    def _remove(folder: Path) -> None:
        shutil.rmtree(folder / "files", ignore_errors=True)
        shutil.rmtree(folder / "parts", ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)

    def _forgotten(self) -> Iterator[Path]:
        before = time.time() - _FORGOTTEN_SECONDS
        for folder in self._all.iterdir():
            with contextlib.suppress(OSError):
                if folder != self.folder and (folder / "lock").stat().st_mtime < before and _is_free(folder):
                    yield folder

    def part(self, file: RemoteFile) -> Path:
        """The folder that one file is fetched into, by itself."""
        return self.folder / "parts" / hashlib.sha256(file.path.encode()).hexdigest()[:20]

    def place(self, file: RemoteFile) -> Path:
        """Where a file lies once it is right."""
        return self.folder / "files" / file.path

    def drop_part(self, file: RemoteFile) -> None:
        """Remove what is here of a file under way."""
        shutil.rmtree(self.part(file), ignore_errors=True)

    def keep(self, fetched: Path, file: RemoteFile) -> None:
        """Move a file that is right to its place, and drop what its fetching left."""
        target = self.place(file)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(fetched, target)
        self.drop_part(file)

    def adopt(self, found: Path, file: RemoteFile) -> bool:
        """Take a file that is right and lies in the cache, as a hard link; false where the disk has none."""
        target = self.place(file)
        with contextlib.suppress(OSError):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            os.link(found, target)
            return True
        return False

    def sweep(self, wanted: Iterable[RemoteFile], *, resumes: bool) -> None:
        """Drop what is of no use for these files.

        Args:
            wanted: all files of the download.
            resumes: what a killed fetch left of one is of use.
        """
        wanted = tuple(wanted)
        parts = {self.part(file) for file in wanted} if resumes else set()
        with contextlib.suppress(OSError):
            for part in set((self.folder / "parts").iterdir()) - parts:
                shutil.rmtree(part, ignore_errors=True)
        places = {str(self.place(file)) for file in wanted}
        for parent, _, names in os.walk(self.folder / "files"):
            for useless in {os.path.join(parent, name) for name in names} - places:
                os.unlink(useless)

    def part_bytes(self, file: RemoteFile) -> int:
        """How much of a file under way is here."""
        return min(file.size, max(_sizes(self.part(file)), default=0))

    def free_bytes(self) -> int:
        """What the disk has left for this person."""
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize


def _sizes(folder: Path) -> Iterator[int]:
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                yield os.lstat(os.path.join(parent, name)).st_size


def _is_free(folder: Path) -> bool:
    with contextlib.suppress(OSError), open(folder / "lock", "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return True
    return False
