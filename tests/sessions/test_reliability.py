"""Checks of the durability list that end processes, count locks and look at modes."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

from sessions import (
    Ending,
    FutureStore,
    Journal,
    SessionHeld,
    SessionStore,
    TurnState,
    to_json,
    write_export,
)
from sessions.connection import bare_connection, connect
from sessions.migrations import STEPS
from tests.sessions import child
from tests.sessions.waiting import wait_until

SEED = random.randrange(2**32)
# 300 ms are promised; the rest is for a machine on which the writer thread does not get its turn.
LOST_SECONDS = 0.3
SCHEDULING_SECONDS = 1.2


def kill_after(process: subprocess.Popen[str], seconds: float) -> list[str]:
    """What a process said until it was killed, that long after its first line."""
    assert process.stdout is not None
    with process, process.stdout as said:
        first = said.readline()
        time.sleep(seconds)
        process.kill()
        return [first.strip(), *said.read().splitlines()]


def integrity(file: Path) -> str:
    with closing(connect(file)) as connection:
        return str(connection.execute("pragma integrity_check").fetchone()[0])


def kill_a_stream(file: Path, seconds: float) -> float:
    """Kill a process in a reply; seconds of text that were lost."""
    said = kill_after(child.start("stream", file), seconds)
    turn_id = int(said[0].removeprefix("acked "))
    fed = [float(line.removeprefix("fed ")) for line in said if line.startswith("fed ")]
    with SessionStore(file) as store:
        turn = store.turn(turn_id).result()
    assert turn.prompt.startswith("prompt of")
    assert turn.state is TurnState.INTERRUPTED
    saved = [float(moment) for moment in turn.reply.split()]
    assert saved == fed[: len(saved)]
    return fed[-1] - (saved[-1] if saved else fed[0]) if fed else 0.0


def test_check_01_a_kill_in_a_reply_loses_no_message_and_little_text(file: Path) -> None:
    draw = random.Random(SEED)
    lost = sorted(kill_a_stream(file, draw.uniform(0.0, 0.6)) for _ in range(30))
    assert integrity(file) == "ok"
    assert lost[15] <= LOST_SECONDS, (SEED, lost)
    assert lost[-1] <= LOST_SECONDS + SCHEDULING_SECONDS, (SEED, lost)
    with SessionStore(file) as store:
        assert len(store.sessions().result()) == 30


def test_check_10_two_instances_append_without_a_lock_in_sight(file: Path) -> None:
    writers = [child.start("append", file, "1000") for _ in range(2)]
    for writer in writers:
        said, _ = writer.communicate(timeout=100)
        word, worst, *problem = said.split()
        assert (word, problem) == ("worst", [])
        assert float(worst) <= 5.0
    with SessionStore(file) as store:
        counts = [session.turn_count for session in store.sessions().result()]
        paths = [store.path_of(session.id).result() for session in store.sessions().result()]
    assert counts == [1000, 1000]
    assert [turn.prompt for turn in paths[0]] == [f"message {number}" for number in range(1000)]


def test_check_10_a_session_opened_twice_is_read_only_with_its_holder_named(store: SessionStore) -> None:
    session_id = store.create().result().id
    other = child.start("hold", store.file, str(session_id))
    assert other.stdout is not None
    assert other.stdout.readline() == f"holding {other.pid}\n"
    holder = store.claim(session_id).result()
    assert holder is not None
    assert (holder.pid, holder.host) == (other.pid, os.uname().nodename)
    refused = store.begin_turn(session_id, None, "me too", "m").exception()
    assert isinstance(refused, SessionHeld)
    assert refused.holder == holder
    assert str(other.pid) in refused.message
    for future in (store.rename(session_id, "x"), store.set_head(session_id, None)):
        assert isinstance(future.exception(), SessionHeld)
    assert isinstance(store.delete(session_id).exception(), SessionHeld)
    [turn] = store.path_of(session_id).result()
    assert (turn.prompt, turn.state) == ("held", TurnState.STREAMING)
    other.kill()
    other.communicate()
    assert store.claim(session_id).result() is None
    assert store.turn(turn.id).result().state is TurnState.INTERRUPTED


def test_check_12_every_connection_has_a_rollback_journal_and_full_synchronisation(file: Path) -> None:
    with SessionStore(file) as store:
        assert store.write(durability).result() == ("truncate", 2)
    with closing(bare_connection(file)) as connection:
        connection.execute("pragma journal_mode = wal")
    with SessionStore(file) as store:
        store.create(title="after wal").result()
        assert store.write(durability).result() == ("truncate", 2)
        assert not list(file.parent.glob("*-wal"))


def durability(connection: sqlite3.Connection) -> tuple[str, int]:
    journal_mode = connection.execute("pragma journal_mode").fetchone()[0]
    return journal_mode, connection.execute("pragma synchronous").fetchone()[0]


def test_check_13_a_kill_in_a_migration_leaves_the_old_or_the_new_schema(file: Path) -> None:
    draw = random.Random(SEED)
    with SessionStore(file) as store:
        store.create(title="kept").result()
    original = file.read_bytes()
    versions = []
    for _ in range(10):
        kill_after(child.start("migrate_slowly", file), draw.uniform(0.0, 0.4))
        with closing(connect(file)) as connection:
            version = connection.execute("pragma user_version").fetchone()[0]
            tables = {name for (name,) in connection.execute("select name from sqlite_master")}
            assert connection.execute("select title from session").fetchall() == [("kept",)]
        assert integrity(file) == "ok"
        assert {"reply_piece", "second"} & tables == (
            {"reply_piece"} if version == len(STEPS) else {"second"}
        )
        versions.append(version)
        file.write_bytes(original)
    assert set(versions) <= {len(STEPS), len(STEPS) + 1}, SEED


def test_check_13_a_store_from_the_future_is_refused_and_untouched(file: Path) -> None:
    with SessionStore(file):
        pass
    with closing(bare_connection(file)) as connection:
        connection.execute(f"pragma user_version = {len(STEPS) + 7}")
    before = file.read_bytes()
    with pytest.raises(FutureStore, match=str(len(STEPS) + 7)) as refused:
        SessionStore(file).open()
    assert refused.value.hint
    assert file.read_bytes() == before


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022])
def test_check_14_everything_made_is_for_its_owner_only(file: Path, umask: int) -> None:
    user = child.start("use", file, umask=umask)
    assert user.stdout is not None
    assert user.stdout.readline() == "used\n"
    assert (file.parent / "sessions.db-journal").exists()
    user.communicate()
    old = os.umask(umask)
    try:
        with SessionStore(file) as store:
            write_export(file.parent / "talk.json", to_json(store.record(1).result()))
    finally:
        os.umask(old)
    assert loose_ones(file.parent) == []
    assert len(list(file.parent.rglob("*"))) >= 4


def loose_ones(folder: Path) -> list[Path]:
    return [place for place in (folder, *folder.rglob("*")) if place.stat().st_mode & 0o077]


def test_check_07_on_a_full_disk_text_waits_in_memory_and_is_saved_when_there_is_room(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(disk)]
    if os.getuid() != 0 or shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        fill_and_free(disk)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def fill_and_free(disk: Path) -> None:
    problems: list[str] = []
    with SessionStore(disk / "sessions.db", problems.append) as store:
        turn = store.begin_turn(store.create().result().id, None, "hi", "m").result()
        pen = Journal(store)
        pen.feed(turn.id, "early ", tokens=64)
        store.write(lambda _: None).result()
        ballast = disk / "ballast"
        with pytest.raises(OSError, match="No space"):
            fill(ballast)
        late = "late " * 20_000
        pen.feed(turn.id, late, tokens=64)
        wait_until(lambda: bool(store.problem))
        assert "full" in store.problem
        assert pen.unsaved(turn.id)[0] == late
        assert store.turn(turn.id).result().reply == "early "
        ballast.unlink()
        freed = time.monotonic()
        wait_until(lambda: not store.problem)
        assert time.monotonic() - freed < 2.0 + SCHEDULING_SECONDS
        assert store.turn(turn.id).result().reply == "early " + late
        assert problems[-1] == ""
        assert pen.finish(turn.id, Ending(state=TurnState.FINISHED)).result().reply == "early " + late
    assert integrity(disk / "sessions.db") == "ok"


def fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
