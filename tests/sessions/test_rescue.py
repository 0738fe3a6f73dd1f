from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sessions import Ending, SessionError, SessionStore, StorageFailed, StoreRefused, TurnState, rescue
from sessions.connection import bare_connection

SEED = random.randrange(2**32)


@pytest.fixture
def healthy(file: Path) -> Path:
    """40 sessions of 5 turns, about 1 MB."""
    with SessionStore(file) as store:
        for number in range(40):
            session_id, parent_id = store.create(title=f"session {number}", model="m").result().id, None
            for turn in range(5):
                text = f"prompt {number}.{turn} " + "word " * 1000
                parent_id = store.begin_turn(session_id, parent_id, text, "m").result().id
                store.end_turn(parent_id, Ending(state=TurnState.FINISHED)).result()
    return file


def damage(file: Path, offset: int, written: bytes) -> bytes:
    with file.open("r+b") as opened:
        opened.seek(offset)
        opened.write(written)
    return file.read_bytes()


def kept_files(file: Path) -> list[Path]:
    return [path for path in file.parent.glob("*.damaged-*") if not path.name.endswith("-journal")]


def test_check_09_a_damaged_file_is_kept_reported_and_its_healthy_talk_readable(healthy: Path) -> None:
    before = damage(healthy, healthy.stat().st_size // 2 // 4096 * 4096, b"\xff" * 4096)
    with SessionStore(healthy) as store:
        [notice] = store.notices
        assert "damaged" in notice
        sessions = store.sessions().result()
        assert len(sessions) == 40
        turns = [turn for session in sessions for turn in store.path_of(session.id).result()]
        assert len(turns) > 100
        assert all(turn.prompt.startswith("prompt ") for turn in turns)
        store.begin_turn(sessions[0].id, sessions[0].head_turn_id, "it goes on", "m").result()
    [kept] = kept_files(healthy)
    assert str(kept) in notice
    assert kept.read_bytes() == before
    with SessionStore(healthy) as store:
        assert store.notices == ()


def test_check_09_whatever_is_flipped_or_cut_no_opening_crashes_and_no_original_is_lost(
    healthy: Path,
) -> None:
    draw = random.Random(SEED)
    sound = healthy.read_bytes()
    for number in range(25):
        for path in healthy.parent.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        hurt = bytearray(sound)
        if number % 5:
            for _ in range(number):
                hurt[draw.randrange(draw.choice((100, 4096, len(hurt))))] ^= 1 << draw.randrange(8)
        else:
            del hurt[draw.randrange(1, len(hurt)) :]
        healthy.write_bytes(hurt)
        try:
            with SessionStore(healthy) as store:
                use(store)
                is_kept = bool(store.notices)
        except StoreRefused:
            is_kept = False
            assert healthy.read_bytes() == bytes(hurt), SEED
        if is_kept:
            assert [path.read_bytes() for path in kept_files(healthy)] == [bytes(hurt)], SEED


def use(store: SessionStore) -> None:
    """Read all there is; what cannot be read is an error of ours."""
    for future in (store.sessions(), store.search("prompt"), store.last_session()):
        assert future.exception() is None or isinstance(future.exception(), SessionError)
    if store.sessions().exception() is None:
        for session in store.sessions().result():
            failed = store.record(session.id).exception()
            assert failed is None or isinstance(failed, SessionError)


def test_a_file_that_is_no_database_is_kept_and_a_new_one_begun(healthy: Path) -> None:
    healthy.write_bytes(b"not a database" * 1000)
    with SessionStore(healthy) as store:
        assert "0 sessions" in store.notices[0]
        assert store.sessions().result() == ()
    assert kept_files(healthy)[0].read_bytes() == b"not a database" * 1000


def test_a_missing_table_is_damage(healthy: Path) -> None:
    with closing(bare_connection(healthy)) as connection:
        connection.execute("drop table reply_piece")
    with SessionStore(healthy) as store:
        assert "40 sessions with 200 turns" in store.notices[0]


def test_turns_whose_session_or_parent_is_lost_are_gathered(healthy: Path) -> None:
    with closing(sqlite3.connect(healthy, isolation_level=None)) as connection:
        connection.execute("pragma foreign_keys = off")
        connection.execute("delete from session where id = 7")
        connection.execute("delete from turn where id in (42, 45)")
        connection.execute("insert into reply_piece values (1, 42, 'x', '')")
        connection.execute("pragma user_version = 0")
    with SessionStore(healthy) as store:
        recovered = store.session(7).result()
        assert (recovered.title, recovered.turn_count) == ("Recovered", 5)
        ninth = store.record(9).result()
        assert [turn.id for turn in ninth.turns] == [41, 43, 44]
        assert [turn.id for turn in ninth.branch()] == [43, 44]


def test_an_old_journal_is_not_played_into_the_new_file(healthy: Path) -> None:
    damage(healthy, 0, b"\xff" * 100)
    journal = healthy.with_name("sessions.db-journal")
    journal.write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + b"\1" * 5000)
    with SessionStore(healthy) as store:
        store.create(title="new").result()
    with SessionStore(healthy) as store:
        assert [session.title for session in store.sessions().result()] == ["new"]


def test_two_rescues_in_one_second_keep_both_files(healthy: Path) -> None:
    for _ in range(2):
        damage(healthy, 0, b"\xff" * 100)
        with SessionStore(healthy):
            pass
    assert len(kept_files(healthy)) == 2


def test_a_rescue_without_room_leaves_the_file_where_it_was(healthy: Path) -> None:
    before = damage(healthy, 0, b"\xff" * 100)
    healthy.with_name("sessions.db.rescued").mkdir(mode=0o700)
    with pytest.raises(StorageFailed, match="could not be saved"):
        rescue.rescue(healthy)
    assert healthy.read_bytes() == before


def test_a_very_large_file_is_not_read_through(healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damage(healthy, healthy.stat().st_size // 2 // 4096 * 4096, b"\xff" * 4096)
    monkeypatch.setattr(rescue, "_CHECKED_BYTES", 4096)
    with SessionStore(healthy) as store:
        assert store.notices == ()
        use(store)
