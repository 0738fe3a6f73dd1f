from __future__ import annotations

import pytest

from sessions import Ending, Journal, SessionStore, TurnState, search

FINISHED = Ending(state=TurnState.FINISHED)


@pytest.fixture
def talk(store: SessionStore) -> SessionStore:
    for title, prompt, reply in (
        ("memory", "What is a KV cache?", "It keeps keys\nand values."),
        ("显存", "显存不够怎么办?", "把模型的一部分放到内存里。"),
        ("other", "100% of C:\\_tmp", "Nothing."),
    ):
        session_id = store.create(title=title).result().id
        turn = store.begin_turn(session_id, None, prompt, "m").result()
        pen = Journal(store)
        pen.feed(turn.id, reply)
        pen.feed(turn.id, "let me THINK", reasoning=True)
        pen.finish(turn.id, FINISHED).result()
    return store


@pytest.mark.parametrize(
    ("text", "sessions"),
    [
        ("kv CACHE", [1]),
        ("keys", [1]),
        ("think", [3, 2, 1]),
        ("模型", [2]),
        ("够", [2]),
        ("显存", [2]),
        ("memory", [1]),
        ("100%", [3]),
        ("%", [3]),
        ("_", [3]),
        ("C:\\_", [3]),
        ("KVcache", []),
        ("\0", []),
        ("x" * 100_000, []),
    ],
)
def test_text_is_found_literally_wherever_it_was_said(
    talk: SessionStore, text: str, sessions: list[int]
) -> None:
    assert [session.id for session in talk.sessions(search_text=text).result()] == sessions
    hits = talk.search(text).result()
    assert {hit.session_id for hit in hits} == set(sessions)
    for hit in hits:
        assert hit.snippet[hit.start : hit.end].lower() == text.lower()


def test_an_empty_text_lists_all_sessions_and_hits_nothing(talk: SessionStore) -> None:
    assert len(talk.sessions(search_text="").result()) == 3
    assert talk.search("").result() == ()


def test_a_snippet_is_one_line_around_the_hit(store: SessionStore) -> None:
    session_id = store.create(title="long").result().id
    turn = store.begin_turn(session_id, None, "a " * 500 + "needle\r\n" + "b\u2028" * 500, "m").result()
    [hit] = store.search("needle").result()
    assert (hit.session_id, hit.turn_id, hit.title) == (session_id, turn.id, "long")
    assert hit.created_at == turn.created_at
    assert len(hit.snippet) == 40 + 6 + 40
    assert len(hit.snippet.splitlines()) == 1


def test_hits_are_limited_and_the_newest_come_first(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "SLICE_TURNS", 3)
    session_id, parent_id = store.create(title="x").result().id, None
    turns = []
    for number in range(10):
        parent_id = store.begin_turn(session_id, parent_id, f"needle {number}", "m").result().id
        turns.append(parent_id)
    assert [hit.turn_id for hit in store.search("needle", limit=7).result()] == turns[:2:-1]
    assert [hit.turn_id for hit in store.search("needle").result()] == turns[::-1]


def test_text_that_sqlite_finds_and_we_cannot_place_is_still_shown(store: SessionStore) -> None:
    session_id = store.create(title="x").result().id
    store.begin_turn(session_id, None, "hello needle", "m").result()
    # A surrogate's bytes, as a damaged file may hold: one bad character to SQLite, three to Python.
    hurt = "update turn set prompt = cast(x'6eeda0806565' as text)"
    store.write(lambda connection: connection.execute(hurt)).result()
    [hit] = store.search("n\ufffdee").result()
    assert (hit.snippet, hit.start, hit.end) == ("n\ufffd\ufffd\ufffdee", 0, 0)
    [hit] = store.search("EE").result()
    assert hit.snippet[hit.start : hit.end] == "ee"
