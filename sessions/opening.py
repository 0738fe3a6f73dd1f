"""What happens to the file before the first connection: a safe place, rescue, migration."""

from __future__ import annotations

import contextlib
import glob
import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from sessions.connection import Connect, explain
from sessions.files import create_file, secure_file, secure_folder
from sessions.holders import opening
from sessions.migrations import migrate
from sessions.rescue import is_damaged, rescue

if TYPE_CHECKING:
    from pathlib import Path

_FAMILY = ("", "-journal", "-wal", "-shm")


def lock_folder(path: Path) -> Path:
    """Where the lock files of a store lie."""
    return path.with_name(f"{path.name}-locks")


def prepare(path: Path, connect: Connect) -> tuple[str, ...]:
    """Make the store's file, or bring it to this version.

    Returns:
        Sentences that the person should read: a rescue, a backup.

    Raises:
        StoreRefused: the place is unsafe or the file is of another program or version.
        StorageFailed: the disk is full or failing.
    """
    secure_folder(path.parent)
    try:
        with opening(lock_folder(path)):
            _secure_family(path)
            notices = _sound_file(path)
            with closing(connect(path)) as connection:
                backup = migrate(connection, path)
    except (sqlite3.Error, OSError, ValueError) as error:
        raise explain(error, path) from error
    if backup is None:
        return notices
    return (*notices, f"The session file was brought to this version; the old one is kept as {backup}.")


def _secure_family(path: Path) -> None:
    for suffix in _FAMILY:
        secure_file(path.with_name(path.name + suffix))
    for kept in path.parent.glob(f"{glob.escape(path.name)}.*"):
        secure_file(kept)
    with contextlib.suppress(FileExistsError):
        os.close(create_file(path))


def _sound_file(path: Path) -> tuple[str, ...]:
    return (str(rescue(path)),) if is_damaged(path) else ()
