from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from sessions import Holder, Journal, SessionHeld, SessionStore, StorageFailed, TurnState, holders
from sessions.holders import Holders, opening


def test_a_session_is_written_by_one_store_at_a_time(store: SessionStore) -> None:
    session_id = store.create().result().id
    assert store.claim(session_id).result() is None
    assert store.claim(session_id).result() is None
    with SessionStore(store.file) as other:
        holder = other.claim(session_id).result()
        assert holder is not None
        assert holder.pid == os.getpid()
        store.release(session_id).result()
        assert other.claim(session_id).result() is None
        refused = store.begin_turn(session_id, None, "x", "m").exception()
        assert isinstance(refused, SessionHeld)
        assert store.path_of(session_id).result() == ()
    assert store.rename(session_id, "mine again").result().title == "mine again"


def test_an_edit_borrows_a_session_and_gives_it_back(store: SessionStore) -> None:
    session_id = store.create().result().id
    store.rename(session_id, "x").result()
    with SessionStore(store.file) as other:
        assert other.claim(session_id).result() is None


def test_a_reply_of_a_living_instance_is_not_interrupted(store: SessionStore) -> None:
    turn = store.begin_turn(store.create().result().id, None, "hi", "m").result()
    Journal(store).feed(turn.id, "going on", tokens=64)
    store.write(lambda _: None).result()
    with SessionStore(store.file) as other:
        assert other.turn(turn.id).result().state is TurnState.STREAMING
        assert other.turn(turn.id).result().reply == "going on"


def test_a_reply_that_nobody_writes_is_interrupted_when_its_session_is_taken(store: SessionStore) -> None:
    session_id = store.create().result().id
    turn = store.begin_turn(session_id, None, "hi", "m").result()
    with SessionStore(store.file) as other:
        store.release(session_id).result()
        assert other.claim(session_id).result() is None
        found = other.turn(turn.id).result()
    assert found.state is TurnState.INTERRUPTED
    assert found.note


def test_lock_files_go_with_the_last_holder(tmp_path: Path) -> None:
    held = Holders(tmp_path / "locks")
    assert held.claim(1) is held.claim(2) is None
    held.release(1)
    held.release(1)
    assert [path.name for path in (tmp_path / "locks").iterdir()] == ["2.lock"]
    held.close()
    assert list((tmp_path / "locks").iterdir()) == []


def test_a_lock_on_a_file_that_lost_its_name_is_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = fcntl.flock
    raced: list[int] = []

    def lose_the_race(descriptor: int, operation: int) -> None:
        if not raced:
            raced.append(descriptor)
            (tmp_path / "1.lock").unlink()
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", lose_the_race)
    first, second = Holders(tmp_path), Holders(tmp_path)
    assert first.claim(1) is None
    assert second.claim(1) is not None
    first.close()


def test_a_file_system_without_locks_counts_as_one_instance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    held = Holders(tmp_path)
    assert held.claim(1) is None
    held.close()


def test_another_failure_of_a_lock_is_not_swallowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int, operation: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(OSError, match="Input/output"):
        Holders(tmp_path).claim(1)


@pytest.mark.parametrize("written", [b"", b"\xff", b"[]", b'{"pid": "x"}', b"[" * 4000])
def test_a_holder_that_cannot_be_read_is_another_process(tmp_path: Path, written: bytes) -> None:
    first, second = Holders(tmp_path), Holders(tmp_path)
    first.claim(1)
    (tmp_path / "1.lock").write_bytes(written)
    assert second.claim(1) == Holder()
    assert str(Holder()) == "another process"
    first.close()


def test_a_holder_is_named_by_process_terminal_and_machine() -> None:
    assert str(Holder(pid=7, host="h200", tty="/dev/pts/3")) == "process 7 on /dev/pts/3 at h200"
    assert str(Holder(pid=7, host="h200")) == "process 7 at h200"


def test_the_terminal_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "ttyname", lambda descriptor: f"/dev/pts/{descriptor}")
    first, second = Holders(tmp_path), Holders(tmp_path)
    first.claim(1)
    holder = second.claim(1)
    assert holder is not None
    assert holder.tty == "/dev/pts/0"
    first.close()


def test_opening_waits_for_another_one_and_then_says_who(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holders, "_OPENING_SECONDS", 0.05)
    with opening(tmp_path), pytest.raises(StorageFailed, match=str(os.getpid())), opening(tmp_path):
        pass
    with opening(tmp_path):
        pass
