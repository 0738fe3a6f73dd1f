"""Finding text in prompts, replies, reasoning and titles.

A plain scan with LIKE, newest turns first, in slices so that no reader keeps the writer waiting. It finds
Chinese words of any length, and nothing has to be kept in step with the turns. A trigram index (FTS5) was
measured on 10,000 turns (51 MB, sqlite 3.40): the scan of everything took 22-46 ms; the index made the file
five times as large, took 7 s to build, and cannot find words of two characters, which most Chinese ones are.
"""

from __future__ import annotations

import itertools
import re
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from sessions.rows import latest_sessions
from sessions.text import LARGEST_INTEGER, storable
from sessions.values import SearchHit, Session

LONGEST_TEXT = 1000
SLICE_TURNS = 500
SNIPPET_CONTEXT = 40
_LINE_BREAKS = re.compile(r"\s")
_TITLES = "select id, title, updated_at from session where title like ? escape '\\' order by updated_at desc"
_SLICE = "select min(id) from (select id from turn where id < ? order by id desc limit ?)"
_TURNS = """
    select turn.session_id, turn.id, session.title, turn.created_at, turn.prompt, turn.reply, turn.reasoning
    from turn join session on session.id = turn.session_id
    where turn.id < ? and turn.id >= ?
      and (prompt like ? escape '\\' or reply like ? escape '\\' or reasoning like ? escape '\\')
    order by turn.id desc
"""


def search(connection: sqlite3.Connection, text: str, limit: int) -> tuple[SearchHit, ...]:
    """Where a text occurs: titles first, then turns, the newest first; one hit a turn.

    Letters a-z match in both cases. An empty text is found nowhere.

    Args:
        connection: outside a transaction.
        text: taken literally; what follows its LONGEST_TEXT characters is not looked for.
        limit: hits at most.
    """
    return tuple(itertools.islice(_hits(connection, text), limit)) if text else ()


def matching_sessions(connection: sqlite3.Connection, text: str, limit: int) -> tuple[Session, ...]:
    """Sessions where a text occurs, the one updated last first; all of them for an empty text."""
    if not text:
        return latest_sessions(connection, limit)
    session_ids = {hit.session_id for hit in _hits(connection, text)}
    sessions = latest_sessions(connection, LARGEST_INTEGER)
    return tuple(session for session in sessions if session.id in session_ids)[:limit]


def _hits(connection: sqlite3.Connection, text: str) -> Iterator[SearchHit]:
    text = storable(text[:LONGEST_TEXT])
    pattern = "%" + re.sub(r"([\\%_])", r"\\\1", text) + "%"
    for session_id, title, updated_at in connection.execute(_TITLES, (pattern,)).fetchall():
        yield _hit(text, (session_id, None, title, updated_at), [title])
    for *place, prompt, reply, reasoning in _matching_turns(connection, pattern):
        yield _hit(text, tuple(place), [prompt, reply, reasoning])


def _matching_turns(connection: sqlite3.Connection, pattern: str) -> Iterator[tuple[Any, ...]]:
    before = LARGEST_INTEGER
    while (first := connection.execute(_SLICE, (before, SLICE_TURNS)).fetchone()[0]) is not None:
        yield from connection.execute(_TURNS, (before, first, pattern, pattern, pattern)).fetchall()
        before = first


def _hit(text: str, place: tuple[Any, ...], candidates: Sequence[str]) -> SearchHit:
    # ASCII: the same letters are alike here as in LIKE.
    wanted = re.compile(re.escape(text), re.IGNORECASE | re.ASCII)
    matches = ((candidate, match.span()) for candidate in candidates if (match := wanted.search(candidate)))
    around, (start, end) = next(matches, (candidates[0], (0, 0)))
    first = max(0, start - SNIPPET_CONTEXT)
    session_id, turn_id, title, created_at = place
    return SearchHit(
        session_id=session_id,
        turn_id=turn_id,
        title=title,
        created_at=created_at,
        snippet=_LINE_BREAKS.sub(" ", around[first : end + SNIPPET_CONTEXT]),
        start=start - first,
        end=end - first,
    )
