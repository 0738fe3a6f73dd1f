from __future__ import annotations

import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from sessions import (
    DamagedStore,
    Ending,
    Journal,
    SessionError,
    SessionStore,
    StorageFailed,
    StoreClosed,
    TurnState,
    connection,
    writer,
)
from sessions.connection import Link, connect
from sessions.writer import Writer
from tests.sessions.waiting import wait_until


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(connection, "BUSY_SECONDS", 0.05)


def test_jobs_run_in_order_and_delayed_ones_when_due(store: SessionStore) -> None:
    ran: list[int] = []
    late = store.write(lambda _: ran.append(3), delay=0.1)
    store.write(lambda _: ran.append(1))
    store.write(lambda _: ran.append(2))
    late.result()
    assert ran == [1, 2, 3]


def test_a_job_that_fails_changes_nothing_and_stops_nobody(store: SessionStore) -> None:
    def half(connection: sqlite3.Connection) -> None:
        connection.execute("update session set title = 'half'")
        raise SessionError("No.", "Try another way.")

    session = store.create(title="whole").result()
    assert str(store.write(half).exception()) == "No. Try another way."
    assert store.session(session.id).result() == session
    assert store.problem == ""


@pytest.mark.parametrize("value", [10**30, "\ud800", object()])
def test_a_value_that_has_no_place_in_a_row_fails_its_job_only(store: SessionStore, value: object) -> None:
    failed = store.write(lambda connection: connection.execute("select ?", (value,))).exception()
    assert isinstance(failed, SessionError)
    assert str(store.file) in failed.message
    assert store.create().result().id == 1


def test_a_cancelled_job_does_not_run(store: SessionStore) -> None:
    gate = threading.Event()
    store.write(lambda _: gate.wait(20))
    unwanted = store.create(title="unwanted")
    assert unwanted.cancel()
    gate.set()
    assert store.create().result().id == 1


def test_a_file_that_is_gone_is_waited_for(file: Path) -> None:
    problems: list[str] = []
    with SessionStore(file, problems.append) as store:
        turn = store.begin_turn(store.create().result().id, None, "hi", "m").result()
        pen = Journal(store)
        file.rename(file.with_name("elsewhere"))
        pen.feed(turn.id, "in memory", reasoning=True, tokens=64)
        wait_until(lambda: bool(store.problem))
        assert str(file) in problems[0]
        assert pen.unsaved(turn.id) == ("", "in memory")
        file.with_name("elsewhere").rename(file)
        wait_until(lambda: not store.problem)
        assert store.turn(turn.id).result().reasoning == "in memory"
    assert problems[1:] == [""]


def test_a_full_disk_keeps_the_order_of_what_waits(file: Path) -> None:
    is_full = False

    def open_connection(path: Path) -> sqlite3.Connection:
        opened = connect(path)
        if is_full:
            opened.execute("pragma max_page_count = 1")
        return opened

    with SessionStore(file, open_connection=open_connection) as store:
        turn = store.begin_turn(store.create().result().id, None, "hi", "m").result()
        is_full = True
        # Another file of that name: the next job connects anew.
        shutil.copy(file, file.with_name("copy"))
        file.with_name("copy").replace(file)
        pen = Journal(store)
        pen.feed(turn.id, "x" * 10_000, tokens=64)
        ended = pen.finish(turn.id, Ending(state=TurnState.STOPPED))
        wait_until(lambda: "full" in store.problem)
        assert "nothing is lost" in store.problem
        assert not ended.done()
        is_full = False
        assert ended.result().reply == "x" * 10_000
        assert store.problem == ""


def test_a_locked_file_is_waited_for(store: SessionStore) -> None:
    with closing(connect(store.file)) as other:
        other.execute("begin exclusive")
        created = store.create()
        wait_until(lambda: "Another process" in store.problem)
        assert isinstance(store.last_session().exception(), StorageFailed)
        other.execute("commit")
        assert created.result().id == 1
    assert store.problem == ""


def test_closing_ends_the_waiting(file: Path) -> None:
    store = SessionStore(file).open()
    file.unlink()
    stuck, behind = store.create(), store.create()
    wait_until(lambda: bool(store.problem))
    store.close()
    assert isinstance(stuck.exception(), StorageFailed)
    assert isinstance(behind.exception(), StorageFailed)


def test_a_file_damaged_while_open_is_named(store: SessionStore) -> None:
    turn = store.begin_turn(store.create().result().id, None, "hi", "m").result()
    pen = Journal(store)
    pen.feed(turn.id, "kept", tokens=1)
    with store.file.open("r+b") as opened:
        opened.write(b"\xff" * 4096)
    ended = pen.finish(turn.id, Ending(state=TurnState.FINISHED))
    assert isinstance(ended.exception(), DamagedStore)
    assert "damaged" in store.problem
    assert pen.unsaved(turn.id) == ("kept", "")
    assert isinstance(store.turn(turn.id).exception(), DamagedStore)


# The thread ends with the error of the bug, which Python reports.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_in_a_job_leaves_no_future_waiting(file: Path) -> None:
    with SessionStore(file):
        pass
    pen = Writer(Link(file, connect), lambda _: None)
    gate = threading.Event()
    pen.start()
    pen.submit(lambda _: gate.wait(20))
    nothing: list[int] = []
    bug, behind = pen.submit(lambda _: nothing[7]), pen.submit(lambda _: None)
    gate.set()
    assert isinstance(bug.exception(), StoreClosed)
    assert isinstance(behind.exception(), StoreClosed)
    pen.close()
