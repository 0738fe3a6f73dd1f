"""Reading a JSON export back: the file is hostile until every field has been looked at."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NoReturn, TypeVar

from sessions.errors import InvalidExport
from sessions.export import FORMAT, FORMAT_VERSION
from sessions.text import LARGEST_INTEGER, as_title, storable
from sessions.values import Session, SessionRecord, Turn, TurnCounts, TurnState

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")
Fields = Mapping[str, object]

LARGEST_BYTES = 256 * 1024 * 1024
MOST_TURNS = 100_000
_LATEST = 253_402_300_799.0  # the last second of the year 9999
_DOCUMENT_FIELDS = frozenset({"format", "version", "session", "turns"})
_SESSION_FIELDS = frozenset(
    {"id", "title", "created_at", "updated_at", "model", "system_prompt", "head_turn_id"}
)
_TURN_FIELDS = frozenset(
    {
        "id",
        "parent_id",
        "prompt",
        "reply",
        "reasoning",
        "state",
        "finish_reason",
        "model",
        "note",
        "created_at",
        "prompt_tokens",
        "completion_tokens",
        "time_to_first_token",
        "decode_tps",
    }
)


def read_export(path: Path) -> SessionRecord:
    """A session from a JSON export.

    Raises:
        InvalidExport: the file cannot be read or is not what `to_json` writes.
    """
    try:
        with path.open("rb") as file:
            found = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise InvalidExport(f"{path} cannot be read: {error.strerror}.", "Check its name.") from error
    return parse_record(found)


def parse_record(found: bytes) -> SessionRecord:
    """A session from the bytes of a JSON export.

    Raises:
        InvalidExport: they are not what `to_json` writes; the sentence names the first fault.
    """
    if len(found) > LARGEST_BYTES:
        _refuse(f"it is larger than {LARGEST_BYTES // 2**20} MiB")
    document = _fields(_parse(found), "the document", _DOCUMENT_FIELDS)
    if document["format"] != FORMAT or document["version"] != FORMAT_VERSION:
        _refuse("its format or version is another one")
    session = _session(_fields(document["session"], "the session", _SESSION_FIELDS))
    turns = _all_turns(document["turns"], session.id)
    head = session.head_turn_id
    if head is not None and head not in {turn.id for turn in turns}:
        _refuse("its head is none of its turns")
    return SessionRecord(session=session, turns=turns)


def _refuse(fault: str) -> NoReturn:
    raise InvalidExport(f"This is no session that can be imported: {fault}.", "Export it again as JSON.")


def _parse(found: bytes) -> object:
    try:
        return json.loads(found.decode("utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InvalidExport(
            "This is no session that can be imported: it is not JSON.", "Export it again."
        ) from error


def _fields(found: object, name: str, expected: frozenset[str]) -> Fields:
    if not isinstance(found, dict):
        _refuse(f"{name} is not an object")
    unknown, missing = found.keys() - expected, expected - found.keys()
    if unknown or missing:
        field = min(unknown or missing)[:40]
        _refuse(f"{name} has {'an unknown' if unknown else 'no'} field {field!r}")
    return found


def _session(fields: Fields) -> Session:
    return Session(
        id=_number(fields, "id"),
        title=as_title(_text(fields, "title")),
        created_at=_time(fields, "created_at"),
        updated_at=_time(fields, "updated_at"),
        model=_text(fields, "model"),
        system_prompt=_text(fields, "system_prompt"),
        head_turn_id=_optional(fields, "head_turn_id", _number),
    )


def _all_turns(found: object, session_id: int) -> tuple[Turn, ...]:
    if not isinstance(found, list) or len(found) > MOST_TURNS:
        _refuse(f"its turns are no list of at most {MOST_TURNS}")
    turns: dict[int, Turn] = {}
    for item in found:
        turn = _turn(_fields(item, "a turn", _TURN_FIELDS), session_id)
        if turn.id in turns or not (turn.parent_id is None or turn.parent_id in turns):
            _refuse(f"turn {turn.id} comes twice or before its parent")
        turns[turn.id] = turn
    return tuple(turns.values())


def _turn(fields: Fields, session_id: int) -> Turn:
    return Turn(
        id=_number(fields, "id"),
        session_id=session_id,
        parent_id=_optional(fields, "parent_id", _number),
        prompt=_text(fields, "prompt"),
        reply=_text(fields, "reply"),
        reasoning=_text(fields, "reasoning"),
        state=_state(fields),
        finish_reason=_text(fields, "finish_reason"),
        model=_text(fields, "model"),
        note=_text(fields, "note"),
        counts=_counts(fields),
        created_at=_time(fields, "created_at"),
    )


def _counts(fields: Fields) -> TurnCounts:
    return TurnCounts(
        prompt_tokens=_number(fields, "prompt_tokens"),
        completion_tokens=_number(fields, "completion_tokens"),
        time_to_first_token=_figure(fields, "time_to_first_token"),
        decode_tps=_figure(fields, "decode_tps"),
    )


def _state(fields: Fields) -> TurnState:
    found = _text(fields, "state")
    if found not in set(TurnState):
        _refuse("the state of a turn is unknown")
    # Nobody goes on writing an imported reply.
    return TurnState.INTERRUPTED if found == TurnState.STREAMING else TurnState(found)


def _text(fields: Fields, name: str) -> str:
    found = fields[name]
    if not isinstance(found, str):
        _refuse(f"{name} is no text")
    return storable(found)


def _number(fields: Fields, name: str) -> int:
    found = fields[name]
    if type(found) is not int or not 0 <= found <= LARGEST_INTEGER:
        _refuse(f"{name} is no number from 0 to {LARGEST_INTEGER}")
    return found


def _figure(fields: Fields, name: str) -> float:
    found = fields[name]
    if type(found) not in (int, float) or not isinstance(found, int | float):
        _refuse(f"{name} is no figure")
    if not (0 <= found <= LARGEST_INTEGER and math.isfinite(found)):
        _refuse(f"{name} is out of range")
    return float(found)


def _time(fields: Fields, name: str) -> float:
    found = _figure(fields, name)
    if found > _LATEST:
        _refuse(f"{name} is out of range")
    return found


def _optional(fields: Fields, name: str, read: Callable[[Fields, str], T]) -> T | None:
    return None if fields[name] is None else read(fields, name)
