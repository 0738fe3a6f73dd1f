from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from sessions import Ending, Journal, SessionStore, Turn, TurnState, UnknownTurn, edits, journal
from sessions.connection import bare_connection

STOPPED = Ending(state=TurnState.STOPPED, finish_reason="cancelled")


@pytest.fixture
def turn(store: SessionStore) -> Turn:
    return store.begin_turn(store.create().result().id, None, "hi", "m").result()


def settle(store: SessionStore) -> None:
    """Wait until what was asked of the writer before is done."""
    store.write(lambda _: None).result()


def pieces(store: SessionStore, turn: Turn) -> int:
    query = "select count(*) from reply_piece where turn_id = ?"
    return int(store.write(lambda connection: connection.execute(query, (turn.id,)).fetchone()[0]).result())


def test_a_reply_and_its_reasoning_are_joined_at_the_end(store: SessionStore, turn: Turn) -> None:
    pen = Journal(store)
    for part in ("think ", "hard"):
        pen.feed(turn.id, part, reasoning=True)
    for part in ("显存", "不够\0\ud800"):
        pen.feed(turn.id, part)
    ended = pen.finish(turn.id, STOPPED).result()
    assert (ended.reasoning, ended.reply) == ("think hard", "显存不够\ufffd\ufffd")
    assert (ended.state, ended.finish_reason) == (TurnState.STOPPED, "cancelled")
    assert pieces(store, turn) == 0
    assert pen.unsaved(turn.id) == ("", "")


def test_64_tokens_are_written_without_waiting(
    store: SessionStore, turn: Turn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "FLUSH_SECONDS", 3600.0)
    pen = Journal(store)
    pen.feed(turn.id, "a" * 63, tokens=63)
    settle(store)
    assert store.turn(turn.id).result().reply == ""
    pen.feed(turn.id, "b")
    settle(store)
    assert store.turn(turn.id).result().reply == "a" * 63 + "b"
    assert pen.unsaved(turn.id) == ("", "")


def test_fewer_tokens_are_written_soon(store: SessionStore, turn: Turn) -> None:
    Journal(store).feed(turn.id, "one token")
    deadline = time.monotonic() + 10
    while store.turn(turn.id).result().reply != "one token":
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_comes_during_a_flush_is_written_by_the_next_one(
    store: SessionStore, turn: Turn, monkeypatch: pytest.MonkeyPatch
) -> None:
    pen = Journal(store)
    append = edits.append_piece

    def append_while_fed(connection: sqlite3.Connection, turn_id: int, reply: str, reasoning: str) -> None:
        append(connection, turn_id, reply, reasoning)
        monkeypatch.setattr(edits, "append_piece", append)
        pen.feed(turn_id, "late", tokens=64)

    monkeypatch.setattr(edits, "append_piece", append_while_fed)
    pen.feed(turn.id, "early ", tokens=64)
    settle(store)
    settle(store)
    assert store.turn(turn.id).result().reply == "early late"


def test_an_unfinished_reply_can_go_on(store: SessionStore, turn: Turn) -> None:
    pen = Journal(store)
    pen.feed(turn.id, "half ")
    pen.finish(turn.id, STOPPED).result()
    again = store.continue_turn(turn.session_id, turn.id).result()
    assert (again.state, again.reply, again.finish_reason) == (TurnState.STREAMING, "half ", "")
    pen.feed(turn.id, "whole")
    assert pen.finish(turn.id, Ending(state=TurnState.FINISHED)).result().reply == "half whole"


def test_text_after_the_end_is_not_lost(store: SessionStore, turn: Turn) -> None:
    pen = Journal(store)
    pen.finish(turn.id, STOPPED).result()
    pen.feed(turn.id, "late", tokens=64)
    settle(store)
    assert store.turn(turn.id).result().reply == "late"


def test_text_of_a_deleted_turn_is_dropped(store: SessionStore, turn: Turn) -> None:
    pen = Journal(store)
    store.delete(turn.session_id).result()
    pen.feed(turn.id, "gone", tokens=64)
    settle(store)
    assert isinstance(pen.finish(turn.id, STOPPED).exception(), UnknownTurn)
    assert store.problem == ""


def test_closing_writes_what_was_fed(file: Path) -> None:
    with SessionStore(file) as store:
        turn = store.begin_turn(store.create().result().id, None, "hi", "m").result()
        Journal(store).feed(turn.id, "the last words")
    with SessionStore(file) as store:
        found = store.turn(turn.id).result()
    assert (found.reply, found.state) == ("the last words", TurnState.INTERRUPTED)


def written_bytes() -> int:
    """Bytes this process handed to the kernel so far."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["wchar"])


def test_a_flush_writes_no_more_at_the_end_of_200_000_tokens(store: SessionStore, turn: Turn) -> None:
    pen = Journal(store)

    def ten_flushes() -> int:
        before = written_bytes()
        for _ in range(10):
            pen.feed(turn.id, "token " * 64, tokens=64)
            settle(store)
        return written_bytes() - before

    early = ten_flushes()
    pen.feed(turn.id, "token " * 200_000, tokens=200_000)
    settle(store)
    assert ten_flushes() < 2 * early < 2_000_000
    assert len(pen.finish(turn.id, STOPPED).result().reply) == (200_000 + 20 * 64) * 6


def test_a_flush_adds_one_short_row(store: SessionStore, turn: Turn, file: Path) -> None:
    pen = Journal(store)
    for _ in range(5):
        pen.feed(turn.id, "token " * 64, tokens=64)
        settle(store)
    connection = bare_connection(file)
    rows = connection.execute("select length(reply) from reply_piece").fetchall()
    connection.close()
    assert rows == [(384,)] * 5
