"""Processes that the tests start, and kill: `python -m tests.sessions.child ROLE FILE ...`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sessions import Journal, SessionStore

ROOT = Path(__file__).parents[2]


def start(role: str, file: Path, *words: str, umask: int = -1) -> subprocess.Popen[str]:
    """Start a process in a role; its output is read line by line."""
    command = [sys.executable, "-m", "tests.sessions.child", role, str(file), *words]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        umask=umask,
    )


def say(line: str) -> None:
    """Tell the parent; after a kill, what was said is in the pipe."""
    os.write(1, f"{line}\n".encode())


def stream(file: Path) -> None:
    """Begin a turn, then stream moments, each as one token, saying which prompt and moments were given."""
    with SessionStore(file) as store:
        journal = Journal(store)
        session = store.create(model="m").result()
        turn = store.begin_turn(session.id, None, f"prompt of {os.getpid()}", "m").result()
        say(f"acked {turn.id}")
        while True:
            moment = time.monotonic()
            journal.feed(turn.id, f"{moment:.6f} ")
            say(f"fed {moment:.6f}")
            time.sleep(0.005)


def append(file: Path, count: str) -> None:
    """Append turns one after the other, and say how long the slowest commit took."""
    with SessionStore(file) as store:
        session = store.create(model="m").result()
        parent_id, worst = None, 0.0
        for number in range(int(count)):
            began = time.monotonic()
            parent_id = store.begin_turn(session.id, parent_id, f"message {number}", "m").result().id
            worst = max(worst, time.monotonic() - began)
        say(f"worst {worst:.3f} {store.problem}")


def hold(file: Path, session_id: str) -> None:
    """Write in a session until the standard input closes."""
    with SessionStore(file) as store:
        store.begin_turn(int(session_id), None, "held", "m").result()
        say(f"holding {os.getpid()}")
        sys.stdin.read()


def use(file: Path) -> None:
    """Talk a little and end without closing, with a reply under way."""
    store = SessionStore(file).open()
    journal = Journal(store)
    session = store.create(model="m").result()
    turn = store.begin_turn(session.id, None, "hello", "m").result()
    for number in range(200):
        journal.feed(turn.id, f"{number} ")
    store.write(lambda _: None).result()
    say("used")
    sys.stdin.read()
    os._exit(0)


def migrate_slowly(file: Path) -> None:
    """Migrate with a step that writes much, saying when it begins."""
    import sqlite3

    from sessions.connection import connect
    from sessions.migrations import STEPS, migrate

    def copy_turns(connection: sqlite3.Connection) -> None:
        connection.execute("create table second (id integer primary key, text text)")
        say("stepping")
        for number in range(100_000):
            connection.execute("insert into second (text) values (?)", (f"{number}" * 20,))
        connection.execute("drop table reply_piece")

    connection = connect(file)
    connection.execute("pragma cache_size = 10")
    migrate(connection, file, (*STEPS, copy_turns))
    say("migrated")


ROLES: dict[str, Callable[..., None]] = {
    "stream": stream,
    "append": append,
    "hold": hold,
    "use": use,
    "migrate_slowly": migrate_slowly,
}

if __name__ == "__main__":
    ROLES[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
