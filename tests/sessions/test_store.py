from __future__ import annotations

import asyncio
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from sessions import (
    Ending,
    SessionStore,
    StoreClosed,
    TurnCounts,
    TurnState,
    UnknownSession,
    UnknownTurn,
)

FINISHED = Ending(state=TurnState.FINISHED, finish_reason="stop")


def talk(store: SessionStore, *prompts: str) -> list[int]:
    """A session with one branch; its number, then those of its turns."""
    session_id, parent_id, numbers = store.create(model="m").result().id, None, []
    for prompt in prompts:
        parent_id = store.begin_turn(session_id, parent_id, prompt, "m").result().id
        store.end_turn(parent_id, FINISHED).result()
        numbers.append(parent_id)
    return [session_id, *numbers]


def test_a_session_begins_empty(store: SessionStore) -> None:
    session = store.create(title="kernel notes", model="guide", system_prompt="Be brief.").result()
    assert (session.title, session.model, session.system_prompt) == ("kernel notes", "guide", "Be brief.")
    assert (session.head_turn_id, session.turn_count) == (None, 0)
    assert store.path_of(session.id).result() == ()
    assert store.session(session.id).result() == session


def test_the_first_prompt_gives_a_title_and_the_last_one_the_model(store: SessionStore) -> None:
    session_id = store.create(model="a").result().id
    first = store.begin_turn(session_id, None, "why is\n prefill fast? " + "x" * 100, "b").result()
    store.begin_turn(session_id, first.id, "and decode slow?", "c").result()
    session = store.session(session_id).result()
    assert session.title.startswith("why is prefill fast? xxx")
    assert session.title.endswith("…")
    assert len(session.title) == 80
    assert session.model == "c"


def test_a_prompt_is_on_disk_when_its_turn_is_returned(store: SessionStore, file: Path) -> None:
    session_id = store.create().result().id
    turn = store.begin_turn(session_id, None, "显存", "m").result()
    assert "显存".encode() in file.read_bytes()
    assert turn.state is TurnState.STREAMING
    assert store.turn(turn.id).result() == turn


def test_the_path_is_the_active_branch_oldest_first(store: SessionStore) -> None:
    session_id, *turns = talk(store, "one", "two", "three")
    assert [turn.id for turn in store.path_of(session_id).result()] == turns


def test_editing_a_prompt_makes_a_sibling_and_the_other_branch_stays(store: SessionStore) -> None:
    session_id, first, second, third = talk(store, "one", "two", "three")
    edited = store.begin_turn(session_id, first, "two, better", "m").result()
    assert [turn.id for turn in store.path_of(session_id).result()] == [first, edited.id]
    assert [turn.id for turn in store.siblings(second).result()] == [second, edited.id]
    head = store.set_head(session_id, second, to_leaf=True).result().head_turn_id
    assert head == third
    assert [turn.prompt for turn in store.path_of(session_id).result()] == ["one", "two", "three"]


def test_the_first_prompt_can_be_edited_too(store: SessionStore) -> None:
    session_id, first = talk(store, "one")
    other = store.begin_turn(session_id, None, "ONE", "m").result()
    assert [turn.id for turn in store.path_of(session_id).result()] == [other.id]
    assert [turn.id for turn in store.siblings(first).result()] == [first, other.id]


def test_the_head_can_be_moved_back_and_away(store: SessionStore) -> None:
    session_id, first, _ = talk(store, "one", "two")
    assert store.set_head(session_id, first).result().head_turn_id == first
    assert [turn.id for turn in store.path_of(session_id).result()] == [first]
    assert store.set_head(session_id, None).result().head_turn_id is None
    assert store.path_of(session_id).result() == ()


def test_an_ending_keeps_what_the_engine_said(store: SessionStore) -> None:
    session_id = store.create().result().id
    turn = store.begin_turn(session_id, None, "hi", "m").result()
    counts = TurnCounts(prompt_tokens=7, completion_tokens=9, time_to_first_token=0.25, decode_tps=31.5)
    ending = Ending(state=TurnState.FAILED, finish_reason="failed", note="Out of memory.", counts=counts)
    ended = store.end_turn(turn.id, ending).result()
    assert (ended.state, ended.finish_reason, ended.note) == (TurnState.FAILED, "failed", "Out of memory.")
    assert ended.counts == counts
    assert store.path_of(session_id).result() == (ended,)


def test_figures_that_sqlite_cannot_keep_do_not_fail_an_ending(store: SessionStore) -> None:
    turn = store.begin_turn(store.create().result().id, None, "hi", "m").result()
    counts = TurnCounts(prompt_tokens=10**30, completion_tokens=-1, decode_tps=float("nan"))
    ended = store.end_turn(turn.id, Ending(state=TurnState.FINISHED, counts=counts)).result()
    assert ended.counts == TurnCounts(prompt_tokens=2**63 - 1)


def test_text_that_sqlite_cannot_keep_is_replaced(store: SessionStore) -> None:
    session = store.create(title="a\0\ud800", model="\udfff", system_prompt="\0").result()
    assert (session.title, session.model, session.system_prompt) == ("a\ufffd\ufffd", "\ufffd", "\ufffd")
    turn = store.begin_turn(session.id, None, "x\0y\ud83d", "\udc00").result()
    assert (turn.prompt, turn.model) == ("x\ufffdy\ufffd", "\ufffd")


def test_titles_and_system_prompts_can_be_changed(store: SessionStore) -> None:
    [session_id] = talk(store)
    assert store.rename(session_id, " new\nname ").result().title == "new name"
    assert store.set_system_prompt(session_id, "Be kind.").result().system_prompt == "Be kind."


def test_a_deleted_session_leaves_nothing_in_the_file(store: SessionStore, file: Path) -> None:
    session_id, first, second = talk(store, "a secret word", "another")
    store.begin_turn(session_id, first, "a branch", "m").result()
    store.delete(session_id).result()
    assert isinstance(store.session(session_id).exception(), UnknownSession)
    assert isinstance(store.turn(second).exception(), UnknownTurn)
    assert b"a secret word" not in file.read_bytes()


def test_numbers_are_not_given_twice(store: SessionStore) -> None:
    session_id, turn_id = talk(store, "one")
    store.delete(session_id).result()
    again, other = talk(store, "two")
    assert again > session_id
    assert other > turn_id


def test_the_session_updated_last_comes_first(store: SessionStore) -> None:
    assert store.last_session().result() is None
    first, second = talk(store, "a")[0], talk(store, "b")[0]
    assert [session.id for session in store.sessions().result()] == [second, first]
    store.begin_turn(first, None, "again", "m").result()
    last = store.last_session().result()
    assert last is not None
    assert last.id == first
    assert [session.id for session in store.sessions(limit=1).result()] == [first]


@pytest.mark.parametrize("number", [0, -1, 99, 10**30])
def test_a_number_that_nothing_has_is_an_error_of_ours(store: SessionStore, number: int) -> None:
    futures: list[Future[Any]] = [
        store.session(number),
        store.path_of(number),
        store.begin_turn(number, None, "x", "m"),
        store.rename(number, "x"),
        store.delete(number),
        store.claim(number),
    ]
    assert all(isinstance(future.exception(), UnknownSession) for future in futures)
    ended = store.end_turn(number, FINISHED).exception()
    assert isinstance(ended, UnknownTurn)
    assert ended.hint


def test_a_parent_of_another_session_is_refused(store: SessionStore) -> None:
    _, turn_id = talk(store, "one")
    [other] = talk(store)
    assert isinstance(store.begin_turn(other, turn_id, "x", "m").exception(), UnknownTurn)
    assert isinstance(store.set_head(other, turn_id).exception(), UnknownTurn)
    assert store.session(other).result().turn_count == 0


def test_saved_talk_is_there_when_opened_again(file: Path) -> None:
    with SessionStore(file) as store:
        session_id, *_ = talk(store, "one", "two")
        path = store.path_of(session_id).result()
    with SessionStore(file) as store:
        assert store.path_of(session_id).result() == path
        assert store.notices == ()


def test_futures_can_be_awaited(store: SessionStore) -> None:
    async def create() -> str:
        session = await asyncio.wrap_future(store.create(title="from a loop"))
        return (await asyncio.wrap_future(store.session(session.id))).title

    assert asyncio.run(create()) == "from a loop"


def test_a_closed_store_says_so(store: SessionStore) -> None:
    store.close()
    store.close()
    assert isinstance(store.create().exception(), StoreClosed)
    assert isinstance(store.last_session().exception(), StoreClosed)


def test_a_store_that_was_never_opened_can_be_closed(file: Path) -> None:
    SessionStore(file).close()
    assert not file.exists()
