"""Connections to the store's file: rollback journal, full synchronisation, one thread each."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from sessions.errors import DamagedStore, SessionError, StorageFailed, UnsafeJournal

Connect = Callable[[Path], sqlite3.Connection]

BUSY_SECONDS = 5.0
# SQLite sleeps 1, 2 and 5 ms within it; then we ask again.
_LOOK_MILLISECONDS = 8
_SYNCHRONOUS_FULL = 2
# What a statement can raise: SQLite's own, the system's, ours, and values that have no place in a row.
FAILURES = (sqlite3.Error, OSError, SessionError, ValueError, OverflowError)
_PRIMARY_CODE = 0xFF
_RETRIED = "It is tried again every second."
_DAMAGED = (DamagedStore, "{path} is damaged: {error}.", "Start again to save what can be read.")
_LOCKED = (StorageFailed, "Another process keeps {path} locked.", "Resume or end the other one.")
_FULL = (StorageFailed, "The disk that holds {path} is full.", "Free some space; nothing is lost so far.")
_FAILING = (StorageFailed, "{path} cannot be read or written: {error}.", _RETRIED)
_UNFIT = (SessionError, "This cannot be kept in {path}: {error}.", "")
_CAUSES: dict[int, tuple[type[SessionError], str, str]] = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_CANTOPEN: _FAILING,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_IOERR: _FAILING,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_PERM: _FAILING,
    sqlite3.SQLITE_PROTOCOL: _FAILING,
    sqlite3.SQLITE_READONLY: _FAILING,
}
# trusted_schema and cell_size_check: a damaged or planted file must not run or overrun anything.
# temp_store: nothing of a talk may lie in a public folder of temporary files.
_SETTINGS = (
    "pragma trusted_schema = off",
    "pragma cell_size_check = on",
    "pragma foreign_keys = on",
    "pragma secure_delete = on",
    "pragma temp_store = memory",
)


def connect(path: Path) -> sqlite3.Connection:
    """Open an existing store for reading and writing, outside any transaction.

    Raises:
        UnsafeJournal: journal_mode or synchronous, read back, are not what was asked for.
        sqlite3.Error: SQLite cannot open the file.
    """
    connection = bare_connection(path)
    try:
        for setting in _SETTINGS:
            connection.execute(setting)
        _demand_durability(connection)
    except (sqlite3.Error, SessionError):
        connection.close()
        raise
    return connection


def bare_connection(path: Path) -> sqlite3.Connection:
    """Open an existing file, saying nothing to SQLite yet that could change it."""
    place = f"file:{quote(os.fsencode(path))}?mode=rw"
    connection = sqlite3.connect(place, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
    connection.text_factory = _decode
    return connection


def _decode(stored: bytes) -> str:
    return stored.decode("utf-8", "replace")


def _demand_durability(connection: sqlite3.Connection) -> None:
    # Never WAL: it breaks on network homes, and SQLite before 3.51.3 can corrupt it.
    journal_mode = connection.execute("pragma journal_mode = truncate").fetchone()[0]
    connection.execute("pragma synchronous = full")
    synchronous = connection.execute("pragma synchronous").fetchone()[0]
    if journal_mode != "truncate" or synchronous != _SYNCHRONOUS_FULL:
        message = f"SQLite keeps journal_mode={journal_mode} and synchronous={synchronous}."
        raise UnsafeJournal(message, "Close other programs that use the session file.")


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection, kind: str = "immediate") -> Iterator[None]:
    """Commit what the block does, or none of it.

    Args:
        connection: outside a transaction.
        kind: `immediate` to write, `deferred` for a consistent view of several statements.
    """
    _begin(connection, kind)
    try:
        yield
        connection.execute("commit")
    finally:
        if connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                connection.rollback()


def _begin(connection: sqlite3.Connection, kind: str) -> None:
    """Begin as soon as the other writer pauses, at most BUSY_SECONDS from now.

    SQLite by itself looks ever more rarely, up to every 100 ms, and a busy writer starves the others.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    connection.execute(f"pragma busy_timeout = {_LOOK_MILLISECONDS}")
    try:
        while not _has_begun(connection, kind, is_last=time.monotonic() > deadline):
            pass
    finally:
        connection.execute(f"pragma busy_timeout = {int(BUSY_SECONDS * 1000)}")


def _has_begun(connection: sqlite3.Connection, kind: str, is_last: bool) -> bool:
    try:
        connection.execute(f"begin {kind}")
    except sqlite3.OperationalError as error:
        if is_last or error.sqlite_errorcode & _PRIMARY_CODE != sqlite3.SQLITE_BUSY:
            raise
        return False
    return True


def explain(error: Exception, path: Path) -> SessionError:
    """Say in our words what SQLite or the system met."""
    if isinstance(error, SessionError):
        return error
    if isinstance(error, OSError):
        return StorageFailed(f"{path} cannot be reached: {error.strerror}.", _RETRIED)
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & _PRIMARY_CODE
    kind, message, hint = _CAUSES.get(code, _UNFIT)
    return kind(message.format(path=path, error=error), hint)


class Link:
    """One thread's connection, opened when needed and again when the file was replaced or failed."""

    def __init__(self, path: Path, open_connection: Connect) -> None:
        """Open nothing yet.

        Args:
            path: the store's file.
            open_connection: how to connect to it.
        """
        self.path = path
        self._connect = open_connection
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    def get(self) -> sqlite3.Connection:
        """The connection, to the file that has the store's name now.

        Raises:
            OSError: no file has it.
        """
        found = self.path.stat()
        if (found.st_dev, found.st_ino) != self._file:
            self.drop()
        if self._connection is None:
            self._connection = self._connect(self.path)
            self._file = (found.st_dev, found.st_ino)
        return self._connection

    def drop(self) -> None:
        """Close the connection; the next `get` opens another."""
        connection, self._connection, self._file = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()
