from __future__ import annotations

import sqlite3
import stat
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessions import ForeignFile, FutureStore, MigrationFailed, SessionStore
from sessions.connection import bare_connection, connect
from sessions.migrations import STEPS, migrate, stored_version


def add_column(connection: sqlite3.Connection) -> None:
    connection.execute("alter table session add column colour text not null default ''")


def fail(connection: sqlite3.Connection) -> None:
    connection.execute("delete from session")
    connection.execute("insert into nowhere values (1)")


@pytest.fixture
def old(file: Path) -> Path:
    with SessionStore(file) as store:
        store.create(title="kept").result()
    return file


def test_an_old_file_is_backed_up_and_then_changed(old: Path) -> None:
    with closing(connect(old)) as connection:
        backup = migrate(connection, old, (*STEPS, add_column))
        assert backup is not None
        assert connection.execute("select title, colour from session").fetchall() == [("kept", "")]
        assert stored_version(connection, 2) == 2
        assert migrate(connection, old, (*STEPS, add_column)) is None
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    with closing(bare_connection(backup)) as connection:
        assert stored_version(connection) == 1
        assert connection.execute("select title from session").fetchall() == [("kept",)]


def test_a_step_that_fails_leaves_the_file_as_it_was(old: Path) -> None:
    before = old.read_bytes()
    with closing(connect(old)) as connection, pytest.raises(MigrationFailed, match="nowhere") as failed:
        migrate(connection, old, (*STEPS, add_column, fail))
    assert failed.value.hint == "It is as it was."
    assert old.read_bytes() == before


def test_a_backup_that_cannot_be_written_stops_the_migration(old: Path) -> None:
    before = old.read_bytes()
    (old.parent / "sessions.db.schema-1").mkdir()
    with closing(connect(old)) as connection, pytest.raises(MigrationFailed):
        migrate(connection, old, (*STEPS, add_column))
    assert old.read_bytes() == before


def test_a_database_of_another_program_is_refused_and_untouched(file: Path) -> None:
    file.parent.mkdir(mode=0o700)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("create table places (url text)")
    before = file.read_bytes()
    with pytest.raises(ForeignFile):
        SessionStore(file).open()
    assert file.read_bytes() == before


@pytest.mark.parametrize("version", [-1, len(STEPS) + 1, 2**31 - 1])
def test_a_version_that_is_not_ours_is_refused(old: Path, version: int) -> None:
    with closing(bare_connection(old)) as connection:
        connection.execute(f"pragma user_version = {version}")
        with pytest.raises(FutureStore, match=str(version)):
            stored_version(connection)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.booleans(), max_size=4), st.integers(0, 4))
def test_a_migration_is_all_or_nothing(outcomes: list[bool], done: int) -> None:
    def step_of(number: int, is_good: bool) -> object:
        def step(connection: sqlite3.Connection) -> None:
            connection.execute(f"create table step_{number} (id integer)")
            if not is_good:
                raise sqlite3.OperationalError("no")

        return step

    good = [step_of(number, True) for number in range(done)]
    more = [step_of(done + number, is_good) for number, is_good in enumerate(outcomes)]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sessions.db"
        file.touch()
        with closing(connect(file)) as connection:
            migrate(connection, file, (*STEPS, *good))  # type: ignore[arg-type]  # made above
            steps = (*STEPS, *good, *more)
            if all(outcomes):
                migrate(connection, file, steps)  # type: ignore[arg-type]  # made above
            else:
                with pytest.raises(MigrationFailed):
                    migrate(connection, file, steps)  # type: ignore[arg-type]  # made above
            expected = len(steps) if all(outcomes) else 1 + done
            assert stored_version(connection, len(steps)) == expected
            query = "select count(*) from sqlite_master where name like 'step%'"
            assert connection.execute(query).fetchone()[0] == expected - 1
