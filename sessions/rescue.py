"""A damaged file: kept under a new name, and what can be read of it carried into a new one."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sessions.connection import bare_connection, connect, transaction
from sessions.errors import StorageFailed
from sessions.files import create_file
from sessions.migrations import TABLES, migrate, stored_version

if TYPE_CHECKING:
    from pathlib import Path

_CHECKED_BYTES = 256 * 1024 * 1024
# SQLITE_ERROR: what it says to a header or a schema that makes no sense.
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})
_HEAL = (
    """
    insert into session (id, title, created_at, updated_at, model, system_prompt)
    select session_id, 'Recovered', min(created_at), max(created_at), max(model), ''
    from turn where session_id not in (select id from session) group by session_id
    """,
    "update turn set parent_id = null where parent_id not in (select id from turn)",
    """
    update session set head_turn_id = (select max(id) from turn where session_id = session.id)
    where head_turn_id is not null and head_turn_id not in (select id from turn where session_id = session.id)
    """,
    "delete from reply_piece where turn_id not in (select id from turn)",
)


@dataclass(frozen=True, slots=True)
class Rescue:
    """What became of a damaged file.

    Attributes:
        kept: the damaged file under its new name.
        sessions: how many sessions could be read.
        turns: how many turns could be read.
    """

    kept: Path
    sessions: int
    turns: int

    def __str__(self) -> str:
        """Tell a person what happened."""
        saved = f"{self.sessions} sessions with {self.turns} turns could be read"
        return f"The session file was damaged. {saved}; the damaged file is kept as {self.kept}."


def is_damaged(path: Path) -> bool:
    """Whether SQLite finds a fault in the file; changes nothing but what a kill left half done.

    Very large files are not read through: their faults show where they are met.

    Raises:
        StoreRefused: it is no store of this version.
        sqlite3.Error: it cannot be read for another reason than damage.
    """
    try:
        with closing(bare_connection(path)) as connection:
            return _has_fault(connection, path)
    except UnicodeDecodeError:  # SQLite's complaint quotes what stands in the file
        return True
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE:
            return True
        raise


def _has_fault(connection: sqlite3.Connection, path: Path) -> bool:
    version = stored_version(connection)
    tables = {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}
    if not tables:
        return False
    if not (version and tables.issuperset(TABLES)):
        return True
    if path.stat().st_size > _CHECKED_BYTES:
        return False
    return bool(connection.execute("pragma quick_check(1)").fetchone()[0] != "ok")


def rescue(path: Path) -> Rescue:
    """Carry what can be read into a new file of that name; the damaged one gets another.

    Raises:
        StorageFailed: there is no room for a new file; the damaged one is where it was.
    """
    new = path.with_name(f"{path.name}.rescued")
    try:
        counts = _carry(path, new)
        kept = _set_aside(path)
        new.replace(path)
    except (sqlite3.Error, OSError) as error:
        message = f"{path} is damaged, and what is readable could not be saved: {error}."
        raise StorageFailed(message, "Free some space; the file is where it was.") from error
    return Rescue(kept, *counts)


def _carry(path: Path, new: Path) -> tuple[int, int]:
    new.unlink(missing_ok=True)
    os.close(create_file(new))
    with closing(connect(new)) as target, closing(bare_connection(path)) as source:
        migrate(target, new)
        target.execute("pragma foreign_keys = off")
        with transaction(target):
            for table in TABLES:
                _copy_rows(source, target, table)
            for statement in _HEAL:
                target.execute(statement)
        return _count(target, "session"), _count(target, "turn")


def _count(connection: sqlite3.Connection, table: str) -> int:
    return int(connection.execute(f"select count(*) from {table}").fetchone()[0])


def _copy_rows(source: sqlite3.Connection, target: sqlite3.Connection, table: str) -> None:
    columns = [row[1] for row in target.execute(f"pragma table_info({table})")]
    insert = f"insert or replace into {table} values ({', '.join('?' * len(columns))})"
    for row in _readable_rows(source, f"select {', '.join(columns)} from {table}"):
        with contextlib.suppress(sqlite3.Error, OverflowError):
            target.execute(insert, row)


def _readable_rows(source: sqlite3.Connection, query: str) -> Iterator[tuple[Any, ...]]:
    """Rows from both ends up to the damage."""
    for order in ("asc", "desc"):
        with contextlib.suppress(sqlite3.Error, UnicodeDecodeError):
            yield from source.execute(f"{query} order by rowid {order}")
            return


def _set_aside(path: Path) -> Path:
    kept = _free_name(path)
    journal = path.with_name(f"{path.name}-journal")
    # A journal of the damaged file must never be played into the new one.
    if journal.exists():
        journal.rename(kept.with_name(f"{kept.name}-journal"))
    path.rename(kept)
    return kept


def _free_name(path: Path) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    kept, number = path.with_name(f"{path.name}.damaged-{stamp}"), 1
    while os.path.lexists(kept):
        number += 1
        kept = path.with_name(f"{path.name}.damaged-{stamp}-{number}")
    return kept
