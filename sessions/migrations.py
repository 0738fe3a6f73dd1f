"""The schema and how an older file becomes one of this version."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from sessions.connection import bare_connection, transaction
from sessions.errors import ForeignFile, FutureStore, MigrationFailed
from sessions.files import create_file

if TYPE_CHECKING:
    from pathlib import Path

Step = Callable[[sqlite3.Connection], None]

APPLICATION_ID = 0x76726D62
TABLES = ("session", "turn", "reply_piece")

# A parent's id is smaller than its children's: no cycle can be stored, and id order is branch order.
# Types are checked by hand because STRICT tables need a newer SQLite than some machines have.
_TABLES = (
    """
    create table session (
        id integer primary key autoincrement,
        title text not null check (typeof(title) = 'text'),
        created_at real not null check (typeof(created_at) = 'real'),
        updated_at real not null check (typeof(updated_at) = 'real'),
        model text not null check (typeof(model) = 'text'),
        system_prompt text not null check (typeof(system_prompt) = 'text'),
        head_turn_id integer check (typeof(head_turn_id) in ('integer', 'null'))
    )
    """,
    """
    create table turn (
        id integer primary key autoincrement,
        session_id integer not null references session (id) on delete cascade,
        parent_id integer references turn (id) check (parent_id < id),
        prompt text not null check (typeof(prompt) = 'text'),
        reply text not null default '' check (typeof(reply) = 'text'),
        reasoning text not null default '' check (typeof(reasoning) = 'text'),
        state text not null default 'streaming'
            check (state in ('streaming', 'finished', 'stopped', 'interrupted', 'failed')),
        finish_reason text not null default '' check (typeof(finish_reason) = 'text'),
        model text not null check (typeof(model) = 'text'),
        note text not null default '' check (typeof(note) = 'text'),
        prompt_tokens integer not null default 0 check (typeof(prompt_tokens) = 'integer'),
        completion_tokens integer not null default 0 check (typeof(completion_tokens) = 'integer'),
        time_to_first_token real not null default 0 check (typeof(time_to_first_token) = 'real'),
        decode_tps real not null default 0 check (typeof(decode_tps) = 'real'),
        created_at real not null check (typeof(created_at) = 'real')
    )
    """,
    "create index turn_of_session on turn (session_id)",
    "create index turn_of_parent on turn (parent_id)",
    "create index turn_being_written on turn (state) where state = 'streaming'",
    """
    create table reply_piece (
        id integer primary key,
        turn_id integer not null references turn (id) on delete cascade,
        reply text not null check (typeof(reply) = 'text'),
        reasoning text not null check (typeof(reasoning) = 'text')
    )
    """,
    "create index piece_of_turn on reply_piece (turn_id)",
)


def _create_tables(connection: sqlite3.Connection) -> None:
    for statement in _TABLES:
        connection.execute(statement)


STEPS: tuple[Step, ...] = (_create_tables,)


def stored_version(connection: sqlite3.Connection, newest: int = len(STEPS)) -> int:
    """The schema version of a file, 0 for an empty one; changes nothing.

    Raises:
        FutureStore: it is newer than `newest`.
        ForeignFile: another program made it.
    """
    application = connection.execute("pragma application_id").fetchone()[0]
    version = int(connection.execute("pragma user_version").fetchone()[0])
    tables = {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}
    if application != APPLICATION_ID and tables and not tables.issuperset(TABLES):
        raise ForeignFile("The session file is a database of another program.", "Choose another file.")
    if not 0 <= version <= newest:
        message = f"The session file has schema {version}; this version knows {newest}."
        raise FutureStore(message, "Use the newer version that wrote it.")
    return version


def migrate(connection: sqlite3.Connection, path: Path, steps: Sequence[Step] = STEPS) -> Path | None:
    """Bring a file to the version of the last step: all steps or none, after a backup.

    Args:
        connection: outside a transaction.
        path: the file of the connection; the backup gets its name with a suffix.
        steps: one per version, from version 0.

    Returns:
        The backup; None when there was nothing to keep.

    Raises:
        FutureStore, ForeignFile: see `stored_version`.
        MigrationFailed: the file is as it was.
    """
    if stored_version(connection, len(steps)) == len(steps):
        return None
    try:
        with transaction(connection):
            version = stored_version(connection, len(steps))
            backup = _back_up(path, version) if version else None
            for step in steps[version:]:
                step(connection)
            connection.execute(f"pragma application_id = {APPLICATION_ID}")
            connection.execute(f"pragma user_version = {len(steps)}")
    except (sqlite3.Error, OSError) as error:
        raise MigrationFailed(
            f"{path} could not be brought to this version: {error}.", "It is as it was."
        ) from error
    return backup


def _back_up(path: Path, version: int) -> Path:
    backup = path.with_name(f"{path.name}.schema-{version}")
    unfinished = path.with_name(f"{path.name}.schema-{version}.unfinished")
    unfinished.unlink(missing_ok=True)
    descriptor = create_file(unfinished)
    try:
        # Of its own connection: SQLite copies nothing through one that is in a transaction.
        with closing(bare_connection(path)) as source, closing(sqlite3.connect(unfinished)) as target:
            source.backup(target)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    unfinished.replace(backup)
    return backup
