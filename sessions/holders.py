"""Which instance may write in a session: one locked file per open session, freed by the kernel at death."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from sessions.errors import SessionHeld, StorageFailed
from sessions.files import FILE_MODE, secure_folder
from sessions.values import Holder

if TYPE_CHECKING:
    from pathlib import Path

_UNSUPPORTED = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS})
_HOLDER_BYTES = 4096
_OPENING_SECONDS = 10.0
_OPENING_PAUSE = 0.02


class Holders:
    """The sessions that this store writes in, and who writes in the others.

    Not for two threads at once. Locks are advisory, and between open file descriptions: two
    stores of one process exclude each other as two processes do.
    """

    def __init__(self, folder: Path) -> None:
        """Lock nothing yet.

        Args:
            folder: where the lock files lie; made when needed.
        """
        self._folder = folder
        self._held: dict[int, int] = {}

    def claim(self, session_id: int) -> Holder | None:
        """Take a session.

        Returns:
            None when this store has it now; otherwise who has it.
        """
        if session_id in self._held:
            return None
        path = self._path(session_id)
        secure_folder(self._folder)
        descriptor = _lock(path)
        if descriptor is None:
            return _read_holder(path)
        _write_holder(descriptor)
        self._held[session_id] = descriptor
        return None

    def keep(self, session_id: int) -> None:
        """Take a session, or say who has it.

        Raises:
            SessionHeld: another instance has it.
        """
        holder = self.claim(session_id)
        if holder is not None:
            raise SessionHeld(holder)

    @contextlib.contextmanager
    def borrowed(self, session_id: int) -> Iterator[None]:
        """Have a session during the block; keep it afterwards only if it was kept before.

        Raises:
            SessionHeld: another instance has it.
        """
        was_held = self.has(session_id)
        self.keep(session_id)
        try:
            yield
        finally:
            if not was_held:
                self.release(session_id)

    def has(self, session_id: int) -> bool:
        """Whether this store writes in the session."""
        return session_id in self._held

    def release(self, session_id: int) -> None:
        """Let others write in the session."""
        descriptor = self._held.pop(session_id, None)
        if descriptor is not None:
            # Before the lock goes: whoever locked this file meanwhile sees that its name is gone.
            self._path(session_id).unlink(missing_ok=True)
            os.close(descriptor)

    def close(self) -> None:
        """Let others write in every session."""
        for session_id in tuple(self._held):
            self.release(session_id)

    def _path(self, session_id: int) -> Path:
        return self._folder / f"{session_id}.lock"


@contextlib.contextmanager
def opening(folder: Path) -> Iterator[None]:
    """Let one process at a time create, migrate or rescue the store.

    Raises:
        StorageFailed: another process has been at it for 10 seconds.
    """
    secure_folder(folder)
    path = folder / "opening.lock"
    deadline = time.monotonic() + _OPENING_SECONDS
    while (descriptor := _lock(path)) is None:
        if time.monotonic() > deadline:
            raise StorageFailed(f"{_read_holder(path)} is opening the sessions.", "End it, and try again.")
        time.sleep(_OPENING_PAUSE)
    try:
        _write_holder(descriptor)
        yield
    finally:
        os.close(descriptor)


def _lock(path: Path) -> int | None:
    """Lock the file of that name and open it; None while another one has it."""
    while True:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, FILE_MODE)
        os.fchmod(descriptor, FILE_MODE)
        if not _try_lock(descriptor):
            os.close(descriptor)
            return None
        if _has_name(descriptor, path):
            return descriptor
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        # A file system without locks: as one instance alone would, rather than not at all.
        if error.errno not in _UNSUPPORTED:
            raise
    return True


def _has_name(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _write_holder(descriptor: int) -> None:
    holder = Holder(pid=os.getpid(), host=socket.gethostname(), tty=_terminal(), since=time.time())
    # The lock counts; the name in it is a courtesy that a full disk may refuse.
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(asdict(holder)).encode(), 0)


def _terminal() -> str:
    for descriptor in (0, 1, 2):
        with contextlib.suppress(OSError):
            return os.ttyname(descriptor)
    return ""


def _read_holder(path: Path) -> Holder:
    try:
        with path.open("rb") as file:
            fields = json.loads(file.read(_HOLDER_BYTES))
        return Holder(
            pid=int(fields["pid"]),
            host=str(fields["host"]),
            tty=str(fields["tty"]),
            since=float(fields["since"]),
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return Holder()
