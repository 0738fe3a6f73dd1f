"""Where safetensors lie until all are written: beside the pickles, and moved into place at the end.

Several files cannot be moved at once. The index, without which they are no model, goes last; a list of names
lets whoever comes next take back what a death in between left.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from engine.checkpoint.files import shown
from engine.errors import DownloadBusy

FOLDER = ".vramble-convert"
_NAMES = "names.json"
_LOCK = "lock"


class Staging:
    """One conversion's files.

    Attributes:
        folder: all of them, until they are in place.
    """

    def __init__(self, model: Path) -> None:
        """Name the folder; nothing is made before `open`."""
        self._model = model
        self.folder = model / FOLDER
        self._lock = -1

    def open(self) -> None:
        """Make the folder anew and hold it until this process ends; what a dead one left is taken back.

        Raises:
            DownloadBusy: another process holds it.
            OSError: it cannot be made.
        """
        self.sweep()
        self.folder.mkdir(mode=0o700)
        self._hold()

    def _hold(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._lock = os.open(self.folder / _LOCK, flags, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._let_go()
            message = f"Another process is converting {shown(self._model.name)}."
            raise DownloadBusy(message, "Wait for it, or stop it first.") from None

    def _let_go(self) -> None:
        os.close(self._lock)
        self._lock = -1

    def install(self, names: Sequence[str]) -> None:
        """Move files into place; the last one makes them a model.

        Raises:
            OSError: one cannot be moved; those before it are taken back.
        """
        (self.folder / _NAMES).write_text(json.dumps(names), encoding="utf-8")
        for name in names:
            os.rename(self.folder / name, self._model / name)
        sync(self._model)
        self.discard()

    def discard(self) -> None:
        """Remove the folder, and whatever of unfinished files is in place already."""
        self._take_back()
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock >= 0:
            self._let_go()

    def sweep(self) -> None:
        """Remove what a process that is dead has left. Raises DownloadBusy where one is alive."""
        if os.path.lexists(self.folder) and not self.folder.is_symlink():
            self._hold()
            self.discard()

    def _take_back(self) -> None:
        """Remove files that were moved while the last of them was not."""
        try:
            names = json.loads((self.folder / _NAMES).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return
        if names and os.path.lexists(self.folder / names[-1]):
            for name in names[:-1]:
                with contextlib.suppress(OSError):
                    os.unlink(self._model / name)


def sync(path: Path) -> None:
    """Have a file's bytes, or a folder's names, on the disk before going on."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
