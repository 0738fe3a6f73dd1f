"""The one thread that writes: jobs in order, each in one transaction, retried while the storage fails."""

from __future__ import annotations

import heapq
import itertools
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from sessions.connection import FAILURES, explain, transaction
from sessions.errors import DamagedStore, StorageFailed, StoreClosed

if TYPE_CHECKING:
    from sessions.connection import Link

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
ProblemChanged = Callable[[str], None]

RETRY_SECONDS = 1.0


def closed_store() -> StoreClosed:
    """The error of work that came too late."""
    return StoreClosed("The session store is closed.", "Nothing more can be saved in it.")


@dataclass(order=True, slots=True)
class _Job:
    """Work that is due at a monotonic time; jobs of one time keep their order."""

    due: float
    number: int
    work: Work[Any] = field(compare=False)
    future: Future[Any] = field(compare=False)


class Writer:
    """Runs jobs one after the other on its own thread and connection.

    A job is a function of the connection, run inside a transaction. It may run more than
    once, but only one run is committed. Its future resolves after the commit.
    """

    def __init__(self, link: Link, on_problem: ProblemChanged) -> None:
        """Prepare; `start` starts the thread.

        Args:
            link: used by the thread only.
            on_problem: called on the thread with a sentence when saving fails, "" when it works again.
        """
        self.problem = ""
        self._link = link
        self._on_problem = on_problem
        self._jobs: list[_Job] = []
        self._current: _Job | None = None
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="sessions-writer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, work: Work[T], delay: float = 0.0) -> Future[T]:
        """Queue a job; never blocks.

        Args:
            work: what to do inside a transaction.
            delay: seconds before it is due; closing makes every job due.
        """
        future: Future[T] = Future()
        with self._changed:
            if self._closing:
                future.set_exception(closed_store())
                return future
            job = _Job(time.monotonic() + delay, next(self._numbers), work, future)
            heapq.heappush(self._jobs, job)
            self._changed.notify()
        return future

    def close(self) -> None:
        """Run what is queued, each job once more if the storage fails, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            while (job := self._take()) is not None:
                self._current = job
                self._perform(job)
        finally:
            self._link.drop()
            self._abandon()

    def _take(self) -> _Job | None:
        with self._changed:
            while not (self._closing or self._seconds_left() == 0.0):
                self._changed.wait(self._seconds_left())
            return heapq.heappop(self._jobs) if self._jobs else None

    def _seconds_left(self) -> float | None:
        return max(0.0, self._jobs[0].due - time.monotonic()) if self._jobs else None

    def _perform(self, job: _Job) -> None:
        if not job.future.set_running_or_notify_cancel():
            return
        while True:
            try:
                result = self._commit(job.work)
            except FAILURES as error:
                if self._goes_on(job, error):
                    continue
                return
            self._report("")
            job.future.set_result(result)
            return

    def _commit(self, work: Work[T]) -> T:
        connection = self._link.get()
        with transaction(connection):
            return work(connection)

    def _goes_on(self, job: _Job, error: Exception) -> bool:
        """Whether to try the job again, after a pause; if not, it has failed."""
        cause = explain(error, self._link.path)
        if isinstance(cause, StorageFailed | DamagedStore):
            self._link.drop()
            self._report(str(cause))
        if isinstance(cause, StorageFailed) and self._pause():
            return True
        cause.__cause__ = None if cause is error else error
        job.future.set_exception(cause)
        return False

    def _pause(self) -> bool:
        """Wait before the next try; False when there shall be none."""
        with self._changed:
            if self._closing:
                return False
            self._changed.wait_for(lambda: self._closing, RETRY_SECONDS)
        return True

    def _report(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            self._on_problem(problem)

    def _abandon(self) -> None:
        with self._changed:
            self._closing = True
            jobs = [self._current, *self._jobs] if self._current else self._jobs
            for job in jobs:
                if not job.future.done():
                    job.future.set_exception(closed_store())
            self._jobs = []
