from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sessions import SessionError, SessionStore, StorageFailed, UnsafeJournal
from sessions.connection import _demand_durability, bare_connection, connect, explain


def test_a_wal_file_that_another_program_reads_is_not_used(file: Path) -> None:
    with SessionStore(file):
        pass
    with closing(bare_connection(file)) as reader:
        reader.execute("pragma journal_mode = wal")
        reader.execute("begin")
        reader.execute("select * from session").fetchall()
        # While someone reads a WAL database, it cannot be turned back.
        with pytest.raises(StorageFailed, match="Another process"):
            SessionStore(file).open()


def test_durability_that_reads_back_otherwise_is_refused() -> None:
    # A database in memory keeps its own journal mode, whatever is asked.
    connection = sqlite3.connect(":memory:", isolation_level=None)
    with closing(connection), pytest.raises(UnsafeJournal, match="memory"):
        _demand_durability(connection)


def test_a_missing_file_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError):
        connect(tmp_path / "none.db")
    assert not (tmp_path / "none.db").exists()


def test_names_that_mean_something_in_an_address_are_taken_literally(tmp_path: Path) -> None:
    file = tmp_path / "a?mode=memory#%41 \udcff{path}" / "sessions.db"
    with SessionStore(file) as store:
        store.create().result()
    assert file.stat().st_size > 0


def test_an_unknown_failure_is_still_ours(tmp_path: Path) -> None:
    explained = explain(sqlite3.IntegrityError("odd {path}"), tmp_path)
    assert type(explained) is SessionError
    assert "odd {path}" in explained.message


def test_nothing_temporary_goes_to_a_file(store: SessionStore) -> None:
    settings = ("temp_store", "trusted_schema", "foreign_keys", "secure_delete", "cell_size_check")

    def read(connection: sqlite3.Connection) -> list[int]:
        return [connection.execute(f"pragma {name}").fetchone()[0] for name in settings]

    assert store.write(read).result() == [2, 0, 1, 1, 1]
