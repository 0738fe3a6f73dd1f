"""Rows of the store as values; every function reads on the connection it is given."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from sessions.errors import UnknownSession, UnknownTurn
from sessions.text import LARGEST_INTEGER
from sessions.values import Session, SessionRecord, Turn, TurnCounts, TurnState

_SESSION = """
    select id, title, created_at, updated_at, model, system_prompt, head_turn_id,
           (select count(*) from turn where session_id = session.id)
    from session
"""
_TURN = """
    select id, session_id, parent_id, prompt, reply, reasoning, state, finish_reason, model, note,
           prompt_tokens, completion_tokens, time_to_first_token, decode_tps, created_at
    from turn
"""
_BRANCH = """
    with recursive branch (id) as (
        select head_turn_id from session where id = ?
        union
        select parent_id from turn join branch using (id) where parent_id is not null
    )
"""
_LEAF = """
    with recursive below (id) as (
        select ?
        union
        select turn.id from turn join below on turn.parent_id = below.id
    )
    select max(id) from below
"""
_SESSION_FIELDS = (
    "id",
    "title",
    "created_at",
    "updated_at",
    "model",
    "system_prompt",
    "head_turn_id",
    "turn_count",
)


def read_session(connection: sqlite3.Connection, session_id: int) -> Session:
    """One session.

    Raises:
        UnknownSession: there is none of that number.
    """
    row = connection.execute(f"{_SESSION} where id = ?", (_key(session_id),)).fetchone()
    if row is None:
        raise UnknownSession(f"There is no session {session_id}.", "List them with: vramble sessions")
    return _session(row)


def latest_sessions(connection: sqlite3.Connection, limit: int) -> tuple[Session, ...]:
    """Sessions, the one updated last first."""
    rows = connection.execute(f"{_SESSION} order by updated_at desc, id desc limit ?", (limit,))
    return tuple(_session(row) for row in rows)


def last_session(connection: sqlite3.Connection) -> Session | None:
    """The session updated last; None when there is none."""
    return next(iter(latest_sessions(connection, 1)), None)


def read_turn(connection: sqlite3.Connection, turn_id: int) -> Turn:
    """One turn, with what is on disk of a reply being written.

    Raises:
        UnknownTurn: there is none of that number.
    """
    turns = _turns(connection, connection.execute(f"{_TURN} where id = ?", (_key(turn_id),)))
    if not turns:
        raise UnknownTurn(f"There is no turn {turn_id}.", "It may have been deleted.")
    return turns[0]


def read_path(connection: sqlite3.Connection, session_id: int) -> tuple[Turn, ...]:
    """The turns of a session's active branch, oldest first.

    Raises:
        UnknownSession: there is none of that number.
    """
    read_session(connection, session_id)
    query = f"{_BRANCH} {_TURN} where id in branch order by id"
    return _turns(connection, connection.execute(query, (session_id,)))


def read_siblings(connection: sqlite3.Connection, turn_id: int) -> tuple[Turn, ...]:
    """The turns with the same parent, the given one among them, oldest first."""
    turn = read_turn(connection, turn_id)
    query = f"{_TURN} where session_id = ? and parent_id is ? order by id"
    return _turns(connection, connection.execute(query, (turn.session_id, turn.parent_id)))


def read_record(connection: sqlite3.Connection, session_id: int) -> SessionRecord:
    """A session with the turns of all its branches."""
    session = read_session(connection, session_id)
    rows = connection.execute(f"{_TURN} where session_id = ? order by id", (session_id,))
    return SessionRecord(session=session, turns=_turns(connection, rows))


def leaf_below(connection: sqlite3.Connection, turn_id: int) -> int:
    """The end of the newest branch that goes through a turn."""
    return int(connection.execute(_LEAF, (turn_id,)).fetchone()[0])


def pieces_of(connection: sqlite3.Connection, turn_id: int) -> tuple[str, str]:
    """Reply and reasoning that were journalled and not yet joined to the turn."""
    pieces = connection.execute(
        "select reply, reasoning from reply_piece where turn_id = ? order by id", (turn_id,)
    )
    rows = pieces.fetchall()
    return "".join(reply for reply, _ in rows), "".join(reasoning for _, reasoning in rows)


def _key(number: int) -> int:
    # What SQLite has no room for is the number of nothing.
    return number if 0 < number <= LARGEST_INTEGER else 0


def _session(row: tuple[Any, ...]) -> Session:
    return Session(**dict(zip(_SESSION_FIELDS, row, strict=True)))


def _turns(connection: sqlite3.Connection, rows: Iterable[tuple[Any, ...]]) -> tuple[Turn, ...]:
    return tuple(_with_pieces(connection, _turn(row)) for row in list(rows))


def _turn(row: tuple[Any, ...]) -> Turn:
    *fields, prompt_tokens, completion_tokens, time_to_first_token, decode_tps, created_at = row
    id_, session_id, parent_id, prompt, reply, reasoning, state, finish_reason, model, note = fields
    return Turn(
        id=id_,
        session_id=session_id,
        parent_id=parent_id,
        prompt=prompt,
        reply=reply,
        reasoning=reasoning,
        state=TurnState(state),
        finish_reason=finish_reason,
        model=model,
        note=note,
        counts=TurnCounts(
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            time_to_first_token=time_to_first_token,
            decode_tps=decode_tps,
        ),
        created_at=created_at,
    )


def _with_pieces(connection: sqlite3.Connection, turn: Turn) -> Turn:
    reply, reasoning = pieces_of(connection, turn.id)
    if not (reply or reasoning):
        return turn
    return replace(turn, reply=turn.reply + reply, reasoning=turn.reasoning + reasoning)
