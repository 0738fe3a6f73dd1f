"""Folders and files that only their owner can read: 0700 and 0600, whatever the umask."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from sessions.errors import StorageFailed, UnsafePlace

if TYPE_CHECKING:
    from pathlib import Path

FOLDER_MODE = 0o700
FILE_MODE = 0o600
_OTHERS = 0o077
_OTHERS_WRITE = 0o022


def secure_folder(folder: Path) -> None:
    """Make a folder and its parents, or tighten it to 0700.

    Raises:
        UnsafePlace: another person owns it or could replace it.
        StorageFailed: it cannot be made.
    """
    try:
        _make(folder)
        _check_link(folder)
        _tighten_folder(folder)
    except OSError as error:
        raise StorageFailed(
            f"{folder} cannot be used: {error.strerror}.", "Choose another folder."
        ) from error


def _make(folder: Path) -> None:
    missing = [folder, *folder.parents]
    missing = missing[: next(index for index, place in enumerate(missing) if os.path.lexists(place))]
    for place in reversed(missing):
        place.mkdir(FOLDER_MODE, exist_ok=True)
        place.chmod(FOLDER_MODE)


def _check_link(folder: Path) -> None:
    if not folder.is_symlink():
        return
    others_can_write = bool(folder.parent.stat().st_mode & _OTHERS_WRITE)
    if others_can_write or folder.lstat().st_uid != os.getuid():
        raise UnsafePlace(
            f"{folder} is a symbolic link that another person could have put there.", "Remove it."
        )


def _tighten_folder(folder: Path) -> None:
    found = folder.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise UnsafePlace(f"{folder} is not a folder.", "Choose another one.")
    if found.st_mode & stat.S_ISVTX:
        raise UnsafePlace(f"Everyone can write in {folder}.", "Choose a folder of your own.")
    _check_owner(folder, found)
    if found.st_mode & _OTHERS:
        folder.chmod(FOLDER_MODE)


def secure_file(path: Path) -> None:
    """Tighten an existing file to 0600; a missing one is left missing.

    Raises:
        UnsafePlace: it is a symbolic link, no regular file, or another person's.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISREG(found.st_mode):
        raise UnsafePlace(f"{path} is a symbolic link or no regular file.", "Remove it.")
    _check_owner(path, found)
    if found.st_mode & _OTHERS:
        path.chmod(FILE_MODE)


def _check_owner(path: Path, found: os.stat_result) -> None:
    if found.st_uid != os.getuid():
        raise UnsafePlace(
            f"{path} belongs to another person (uid {found.st_uid}).", "Choose a folder of your own."
        )


def create_file(path: Path) -> int:
    """Make a new file of 0600 and open it for reading and writing.

    Returns:
        Its descriptor.

    Raises:
        FileExistsError: something has that name, be it a dangling link.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    os.fchmod(descriptor, FILE_MODE)
    return descriptor
