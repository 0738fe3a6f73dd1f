"""SessionStore: saved talk behind one writer thread and one reader thread."""

from __future__ import annotations

import sqlite3
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, Self, TypeVar

from sessions import edits, rows, search
from sessions.connection import FAILURES, Connect, Link, connect, explain, transaction
from sessions.errors import SessionError, SessionHeld
from sessions.holders import Holders
from sessions.opening import lock_folder, prepare
from sessions.writer import ProblemChanged, Work, Writer, closed_store

if TYPE_CHECKING:
    from pathlib import Path

    from sessions.values import Ending, Holder, SearchHit, Session, SessionRecord, Turn

T = TypeVar("T")

OPENING_SECONDS = 1.0


def _ignore(problem: str) -> None:
    """Be told of a problem and do nothing."""


class SessionStore:
    """Saved talk in one SQLite file.

    Every method but `open` and `close` returns at once; its future resolves to the result, after
    the commit where something was written, or to a SessionError. While the disk is full or failing,
    writes wait in order, `problem` holds a sentence, and they are tried again every second.
    Several instances may open one file; a session is written by one of them at a time.

    Attributes:
        file: where the store lies.
        notices: sentences about the opening that the person should read.
    """

    def __init__(
        self, path: Path, on_problem: ProblemChanged = _ignore, open_connection: Connect = connect
    ) -> None:
        """Touch nothing yet.

        Args:
            path: the file; its folder is made, 0700.
            on_problem: called on the writer thread: a sentence when saving fails, "" when it works again.
            open_connection: how to connect to the file.
        """
        self.file = path
        self.notices: tuple[str, ...] = ()
        self._connect = open_connection
        self._holders = Holders(lock_folder(path))
        self._writer = Writer(Link(path, open_connection), on_problem)
        self._reader = ThreadPoolExecutor(1, "sessions-reader")
        self._reading = Link(path, open_connection)

    def open(self) -> Self:
        """Make or migrate the file, and mark replies that a dead process left unfinished.

        Raises:
            StoreRefused: the place is unsafe, or the file is of another program or version.
            StorageFailed: the disk is full or failing.
        """
        self.notices = prepare(self.file, self._connect)
        self._writer.start()
        # On a full disk it goes on by itself; what is there can be read meanwhile.
        wait([self._writer.submit(self._interrupt_the_dead)], OPENING_SECONDS)
        return self

    def close(self) -> None:
        """Save what is queued, and let the sessions go; a second time does nothing."""
        self._writer.close()
        self._holders.close()
        with suppress(RuntimeError):
            self._reader.submit(self._reading.drop)
        self._reader.shutdown()

    def __enter__(self) -> Self:
        """Open it."""
        return self.open()

    def __exit__(self, *_: object) -> None:
        """Close it, whatever happened."""
        self.close()

    @property
    def problem(self) -> str:
        """Why nothing can be saved now, with the next step; empty while all is well."""
        return self._writer.problem

    def write(self, work: Work[T], delay: float = 0.0) -> Future[T]:
        """Queue work for the writer thread; see `Writer.submit`."""
        return self._writer.submit(work, delay)

    def create(self, title: str = "", model: str = "", system_prompt: str = "") -> Future[Session]:
        """Begin a session; without a title the first prompt gives it one."""
        return self.write(
            partial(edits.create_session, title=title, model=model, system_prompt=system_prompt)
        )

    def claim(self, session_id: int) -> Future[Holder | None]:
        """Take a session to write in it: None, or who has it, so that it can only be read here."""
        return self.write(self._taking(session_id))

    def release(self, session_id: int) -> Future[None]:
        """Let other instances write in a session."""
        return self.write(lambda _: self._holders.release(session_id))

    def begin_turn(self, session_id: int, parent_id: int | None, prompt: str, model: str) -> Future[Turn]:
        """Commit a prompt as a streaming turn and the head of its session, which is kept from now on.

        Raises (in the future):
            SessionHeld: another instance writes in it.
            UnknownSession, UnknownTurn: a number that nothing has.
        """
        given = edits.Prompt(session_id=session_id, parent_id=parent_id, text=prompt, model=model)
        return self._keep(session_id, partial(edits.begin_turn, prompt=given))

    def continue_turn(self, session_id: int, turn_id: int) -> Future[Turn]:
        """Let an unfinished reply stream again; what is journalled is appended to it."""
        return self._keep(session_id, partial(edits.continue_turn, turn_id=turn_id))

    def end_turn(self, turn_id: int, ending: Ending) -> Future[Turn]:
        """Say how a reply ended; with a Journal, use its `finish`."""
        return self.write(partial(edits.end_turn, turn_id=turn_id, ending=ending))

    def rename(self, session_id: int, title: str) -> Future[Session]:
        """Give a session another title."""
        return self._edit(session_id, partial(edits.set_title, session_id=session_id, title=title))

    def set_system_prompt(self, session_id: int, system_prompt: str) -> Future[Session]:
        """Give a session another system prompt."""
        work = partial(edits.set_system_prompt, session_id=session_id, system_prompt=system_prompt)
        return self._edit(session_id, work)

    def set_head(self, session_id: int, turn_id: int | None, to_leaf: bool = False) -> Future[Session]:
        """Choose the active branch.

        Args:
            session_id: the session.
            turn_id: its last turn; None for an empty branch.
            to_leaf: go on to the newest end of the branches through that turn.
        """
        work = partial(edits.set_head, session_id=session_id, turn_id=turn_id, to_leaf=to_leaf)
        return self._edit(session_id, work)

    def delete(self, session_id: int) -> Future[None]:
        """Remove a session and all that was said in it."""
        return self._edit(session_id, partial(edits.delete_session, session_id=session_id))

    def add(self, record: SessionRecord) -> Future[Session]:
        """Insert an imported session; it and its turns get numbers of this store."""
        return self.write(partial(edits.add_record, record=record))

    def session(self, session_id: int) -> Future[Session]:
        """One session."""
        return self._read(partial(rows.read_session, session_id=session_id))

    def last_session(self) -> Future[Session | None]:
        """The session updated last; None when there is none."""
        return self._read(rows.last_session)

    def sessions(self, limit: int = 100, search_text: str = "") -> Future[tuple[Session, ...]]:
        """Sessions where a text occurs, all for an empty one; the one updated last first."""
        return self._read(partial(search.matching_sessions, text=search_text, limit=limit), together=False)

    def search(self, text: str, limit: int = 100) -> Future[tuple[SearchHit, ...]]:
        """Where a text occurs in titles, prompts, replies and reasoning; the newest first."""
        return self._read(partial(search.search, text=text, limit=limit), together=False)

    def path_of(self, session_id: int) -> Future[tuple[Turn, ...]]:
        """The turns of the active branch, oldest first."""
        return self._read(partial(rows.read_path, session_id=session_id))

    def turn(self, turn_id: int) -> Future[Turn]:
        """One turn."""
        return self._read(partial(rows.read_turn, turn_id=turn_id))

    def siblings(self, turn_id: int) -> Future[tuple[Turn, ...]]:
        """The turns that answer the same place, the given one among them, oldest first."""
        return self._read(partial(rows.read_siblings, turn_id=turn_id))

    def record(self, session_id: int) -> Future[SessionRecord]:
        """A session with the turns of all its branches, to export."""
        return self._read(partial(rows.read_record, session_id=session_id))

    def _interrupt_the_dead(self, connection: sqlite3.Connection) -> None:
        for session_id in edits.streaming_sessions(connection):
            # A session that can be taken is written by nobody: its writer died.
            if self._holders.claim(session_id) is None:
                edits.interrupt_turns(connection, session_id)
                self._holders.release(session_id)

    def _taking(self, session_id: int) -> Work[Holder | None]:
        is_new = False

        def take(connection: sqlite3.Connection) -> Holder | None:
            nonlocal is_new  # the work may run again after its first run took the session
            rows.read_session(connection, session_id)
            is_new = is_new or not self._holders.has(session_id)
            holder = self._holders.claim(session_id)
            if holder is None and is_new:
                edits.interrupt_turns(connection, session_id)
            return holder

        return take

    def _keep(self, session_id: int, work: Work[T]) -> Future[T]:
        take = self._taking(session_id)

        def kept(connection: sqlite3.Connection) -> T:
            holder = take(connection)
            if holder is not None:
                raise SessionHeld(holder)
            return work(connection)

        return self.write(kept)

    def _edit(self, session_id: int, work: Work[T]) -> Future[T]:
        def borrowed(connection: sqlite3.Connection) -> T:
            with self._holders.borrowed(session_id):
                return work(connection)

        return self.write(borrowed)

    def _read(self, work: Work[T], together: bool = True) -> Future[T]:
        """Run work on the reader thread; `together` gives its statements one view of the file."""
        try:
            return self._reader.submit(self._perform, work, together)
        except RuntimeError:
            failed: Future[T] = Future()
            failed.set_exception(closed_store())
            return failed

    def _perform(self, work: Work[T], together: bool) -> T:
        try:
            connection = self._reading.get()
            with transaction(connection, "deferred") if together else nullcontext():
                return work(connection)
        except SessionError:
            raise
        except FAILURES as error:
            self._reading.drop()
            raise explain(error, self.file) from error
