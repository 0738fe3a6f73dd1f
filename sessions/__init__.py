"""The front door of saved talk: SessionStore, Journal, their values and errors, export and import.

Standard library only; importing it imports nothing heavier than sqlite3.
"""

from __future__ import annotations

from sessions.errors import (
    DamagedStore,
    ForeignFile,
    FutureStore,
    InvalidExport,
    MigrationFailed,
    SessionError,
    SessionHeld,
    StorageFailed,
    StoreClosed,
    StoreRefused,
    UnknownSession,
    UnknownTurn,
    UnsafeJournal,
    UnsafePlace,
)
from sessions.export import to_json, to_markdown, write_export
from sessions.imports import parse_record, read_export
from sessions.journal import Journal
from sessions.store import SessionStore
from sessions.values import (
    Ending,
    Holder,
    SearchHit,
    Session,
    SessionRecord,
    Turn,
    TurnCounts,
    TurnState,
)

__all__ = [
    "DamagedStore",
    "Ending",
    "ForeignFile",
    "FutureStore",
    "Holder",
    "InvalidExport",
    "Journal",
    "MigrationFailed",
    "SearchHit",
    "Session",
    "SessionError",
    "SessionHeld",
    "SessionRecord",
    "SessionStore",
    "StorageFailed",
    "StoreClosed",
    "StoreRefused",
    "Turn",
    "TurnCounts",
    "TurnState",
    "UnknownSession",
    "UnknownTurn",
    "UnsafeJournal",
    "UnsafePlace",
    "parse_record",
    "read_export",
    "to_json",
    "to_markdown",
    "write_export",
]
