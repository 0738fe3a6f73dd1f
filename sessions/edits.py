"""What changes the store; every function runs inside the writer's transaction."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sessions.errors import UnknownTurn
from sessions.rows import leaf_below, pieces_of, read_session, read_turn
from sessions.text import as_title, storable, storable_count, storable_seconds
from sessions.values import Ending, Session, SessionRecord, Turn, TurnCounts, TurnState

if TYPE_CHECKING:
    from collections.abc import Iterable

_INSERT_SESSION = """
    insert into session (title, created_at, updated_at, model, system_prompt) values (?, ?, ?, ?, ?)
"""
_INSERT_TURN = """
    insert into turn (session_id, parent_id, prompt, model, created_at) values (?, ?, ?, ?, ?)
"""
_INSERT_WHOLE_TURN = """
    insert into turn (
        session_id, parent_id, prompt, reply, reasoning, state, finish_reason, model, note,
        prompt_tokens, completion_tokens, time_to_first_token, decode_tps, created_at
    ) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_INSERT_PIECE = """
    insert into reply_piece (turn_id, reply, reasoning)
    select id, ?, ? from turn where id = ?
"""
_END_TURN = """
    update turn set reply = reply || ?, reasoning = reasoning || ?, state = ?, finish_reason = ?, note = ?,
        prompt_tokens = ?, completion_tokens = ?, time_to_first_token = ?, decode_tps = ?
    where id = ?
"""
_INTERRUPT = Ending(
    state=TurnState.INTERRUPTED,
    note="The program ended before the reply did.",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """What begins a turn.

    Attributes:
        session_id: the session.
        parent_id: the turn it follows; None begins a branch at the root.
        text: what the person asked.
        model: the name of the model that is to answer.
    """

    session_id: int
    parent_id: int | None
    text: str
    model: str


def create_session(connection: sqlite3.Connection, title: str, model: str, system_prompt: str) -> Session:
    """Insert an empty session."""
    now = time.time()
    fields = (as_title(title), now, now, storable(model), storable(system_prompt))
    session_id = connection.execute(_INSERT_SESSION, fields).lastrowid
    return read_session(connection, session_id or 0)


def begin_turn(connection: sqlite3.Connection, prompt: Prompt) -> Turn:
    """Insert a turn that streams, and make it the head of its session.

    Raises:
        UnknownSession: there is none of that number.
        UnknownTurn: the parent does not exist or belongs to another session.
    """
    session = read_session(connection, prompt.session_id)
    if prompt.parent_id is not None:
        _demand_turn_of(connection, prompt.parent_id, session.id)
    now = time.time()
    fields = (session.id, prompt.parent_id, storable(prompt.text), storable(prompt.model), now)
    turn_id = connection.execute(_INSERT_TURN, fields).lastrowid
    title = session.title or as_title(prompt.text)
    connection.execute(
        "update session set title = ?, model = ?, head_turn_id = ?, updated_at = ? where id = ?",
        (title, storable(prompt.model), turn_id, now, session.id),
    )
    return read_turn(connection, turn_id or 0)


def continue_turn(connection: sqlite3.Connection, turn_id: int) -> Turn:
    """Let an unfinished reply stream again; what comes is appended to it."""
    read_turn(connection, turn_id)
    connection.execute(
        "update turn set state = 'streaming', finish_reason = '', note = '' where id = ?", (turn_id,)
    )
    return read_turn(connection, turn_id)


def append_piece(connection: sqlite3.Connection, turn_id: int, reply: str, reasoning: str) -> None:
    """Journal more of a reply: one short row, however long the reply is; none for a deleted turn."""
    connection.execute(_INSERT_PIECE, (reply, reasoning, turn_id))


def end_turn(connection: sqlite3.Connection, turn_id: int, ending: Ending) -> Turn:
    """Join the journalled pieces to the turn and say how it ended.

    Raises:
        UnknownTurn: there is none of that number.
    """
    read_turn(connection, turn_id)
    reply, reasoning = pieces_of(connection, turn_id)
    end = (ending.state, storable(ending.finish_reason), storable(ending.note))
    connection.execute(_END_TURN, (reply, reasoning, *end, *_figures(ending.counts), turn_id))
    connection.execute("delete from reply_piece where turn_id = ?", (turn_id,))
    turn = read_turn(connection, turn_id)
    connection.execute("update session set updated_at = ? where id = ?", (time.time(), turn.session_id))
    return turn


def interrupt_turns(connection: sqlite3.Connection, session_id: int) -> int:
    """Mark a session's streaming turns as interrupted; to be used when nobody writes in it.

    Returns:
        How many there were.
    """
    query = "select id from turn where state = 'streaming' and session_id = ?"
    turn_ids = [turn_id for (turn_id,) in connection.execute(query, (session_id,))]
    for turn_id in turn_ids:
        end_turn(connection, turn_id, _INTERRUPT)
    return len(turn_ids)


def streaming_sessions(connection: sqlite3.Connection) -> list[int]:
    """The sessions that have a streaming turn."""
    rows = connection.execute("select distinct session_id from turn where state = 'streaming'")
    return [session_id for (session_id,) in rows]


def set_head(connection: sqlite3.Connection, session_id: int, turn_id: int | None, to_leaf: bool) -> Session:
    """Choose the active branch of a session."""
    read_session(connection, session_id)
    if turn_id is not None:
        _demand_turn_of(connection, turn_id, session_id)
        turn_id = leaf_below(connection, turn_id) if to_leaf else turn_id
    connection.execute("update session set head_turn_id = ? where id = ?", (turn_id, session_id))
    return read_session(connection, session_id)


def set_title(connection: sqlite3.Connection, session_id: int, title: str) -> Session:
    """Give a session another title."""
    read_session(connection, session_id)
    connection.execute("update session set title = ? where id = ?", (as_title(title), session_id))
    return read_session(connection, session_id)


def set_system_prompt(connection: sqlite3.Connection, session_id: int, system_prompt: str) -> Session:
    """Give a session another system prompt."""
    read_session(connection, session_id)
    fields = (storable(system_prompt), session_id)
    connection.execute("update session set system_prompt = ? where id = ?", fields)
    return read_session(connection, session_id)


def delete_session(connection: sqlite3.Connection, session_id: int) -> None:
    """Remove a session and all that was said in it."""
    read_session(connection, session_id)
    # Children before parents: the reference of a turn to its parent has no cascade.
    turns = "select id from turn where session_id = ? order by id desc"
    for turn_id in connection.execute(turns, (session_id,)).fetchall():
        connection.execute("delete from turn where id = ?", turn_id)
    connection.execute("delete from session where id = ?", (session_id,))


def add_record(connection: sqlite3.Connection, record: SessionRecord) -> Session:
    """Insert an imported session; sessions and turns get numbers of this store."""
    session = record.session
    new = create_session(connection, session.title, session.model, session.system_prompt)
    numbers = _add_turns(connection, new.id, record.turns)
    head = None if session.head_turn_id is None else numbers[session.head_turn_id]
    connection.execute(
        "update session set head_turn_id = ?, created_at = ?, updated_at = ? where id = ?",
        (head, storable_seconds(session.created_at), storable_seconds(session.updated_at), new.id),
    )
    return read_session(connection, new.id)


def _add_turns(connection: sqlite3.Connection, session_id: int, turns: Iterable[Turn]) -> dict[int, int]:
    numbers: dict[int, int] = {}
    for turn in turns:
        parent_id = None if turn.parent_id is None else numbers[turn.parent_id]
        texts = (
            turn.prompt,
            turn.reply,
            turn.reasoning,
            turn.state,
            turn.finish_reason,
            turn.model,
            turn.note,
        )
        stored = (storable(text) for text in texts)
        fields = (session_id, parent_id, *stored, *_figures(turn.counts), storable_seconds(turn.created_at))
        numbers[turn.id] = connection.execute(_INSERT_WHOLE_TURN, fields).lastrowid or 0
    return numbers


def _figures(counts: TurnCounts) -> tuple[float, ...]:
    return (
        storable_count(counts.prompt_tokens),
        storable_count(counts.completion_tokens),
        storable_seconds(counts.time_to_first_token),
        storable_seconds(counts.decode_tps),
    )


def _demand_turn_of(connection: sqlite3.Connection, turn_id: int, session_id: int) -> None:
    if read_turn(connection, turn_id).session_id != session_id:
        raise UnknownTurn(f"Turn {turn_id} belongs to another session.", "Choose one of this session.")
