"""Every way the saved talk can refuse or fail.

SessionError
├── StoreRefused         the file is not opened, and not touched
│   ├── UnsafePlace      another person owns it, can write there, or it is a symbolic link
│   ├── ForeignFile      a database of another program
│   ├── FutureStore      written by a later version
│   ├── UnsafeJournal    SQLite would not keep the journal mode that survives a kill
│   └── MigrationFailed  the file could not be brought to this version
├── StorageFailed        the disk is full or failing, or another process keeps the file locked
├── DamagedStore         what is in the file cannot be read
├── StoreClosed          the store was closed before the work was done
├── UnknownSession       no session has this number
├── UnknownTurn          no turn has this number
├── SessionHeld          another instance writes in the session
└── InvalidExport        a file to import is not what it should be

Each carries `message`, what happened and why in one sentence, and `hint`, the next step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sessions.values import Holder


class SessionError(Exception):
    """The root of the tree: a sentence of cause and a next step, both fit to show to a person."""

    def __init__(self, message: str, hint: str = "") -> None:
        """Keep the sentence and the next step.

        Args:
            message: what happened and why, one sentence.
            hint: what the person can do now; empty when there is nothing to do.
        """
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """Join message and hint into one line."""
        return f"{self.message} {self.hint}".strip()


class StoreRefused(SessionError):
    """The store is not opened, and its file is as it was."""


class UnsafePlace(StoreRefused):
    """Another person owns the place, can write there, or it is a symbolic link."""


class ForeignFile(StoreRefused):
    """The file is a database of another program."""


class FutureStore(StoreRefused):
    """The file was written by a later version."""


class UnsafeJournal(StoreRefused):
    """SQLite would not keep the rollback journal or full synchronisation."""


class MigrationFailed(StoreRefused):
    """The file could not be brought to this version; it is as it was."""


class StorageFailed(SessionError):
    """The disk is full or failing, or another process keeps the file locked."""


class DamagedStore(SessionError):
    """What is in the file cannot be read."""


class StoreClosed(SessionError):
    """The store was closed before the work was done."""


class UnknownSession(SessionError):
    """No session has this number."""


class UnknownTurn(SessionError):
    """No turn has this number, or it belongs to another session."""


class SessionHeld(SessionError):
    """Another instance writes in the session, so that it can only be read here."""

    def __init__(self, holder: Holder) -> None:
        """Name the holder in the sentence.

        Args:
            holder: who writes in the session.
        """
        super().__init__(
            f"This session is open in {holder}.", "It can be read here; close it there to write."
        )
        self.holder = holder


class InvalidExport(SessionError):
    """A file to import is too large, malformed, or holds what no session can hold."""
