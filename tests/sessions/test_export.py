from __future__ import annotations

import json
import stat
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessions import (
    InvalidExport,
    Session,
    SessionRecord,
    SessionStore,
    StorageFailed,
    Turn,
    TurnCounts,
    TurnState,
    imports,
    parse_record,
    read_export,
    to_json,
    to_markdown,
    write_export,
)

# Every character that a store keeps as it is.
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
TITLES = TEXTS.map(lambda text: " ".join(text.split()))
COUNTS = st.integers(0, 2**63 - 1)
SECONDS = st.floats(0, 4e9)
DRIVING = set(map(chr, [*range(9), *range(11, 32), *range(127, 160), 0x200E, 0x202E, 0x2066, 0x2028]))


@st.composite
def records(draw: st.DrawFn) -> SessionRecord:
    turns: list[Turn] = []
    for number in range(1, draw(st.integers(0, 5)) + 1):
        parents = [None, *(turn.id for turn in turns)]
        turns.append(
            Turn(
                id=number * 3,
                session_id=7,
                parent_id=draw(st.sampled_from(parents)),
                prompt=draw(TEXTS),
                reply=draw(TEXTS),
                reasoning=draw(TEXTS),
                state=draw(st.sampled_from([state for state in TurnState if state != TurnState.STREAMING])),
                finish_reason=draw(TEXTS),
                model=draw(TEXTS),
                note=draw(TEXTS),
                counts=TurnCounts(
                    prompt_tokens=draw(COUNTS),
                    completion_tokens=draw(COUNTS),
                    time_to_first_token=draw(SECONDS),
                    decode_tps=draw(SECONDS),
                ),
                created_at=draw(SECONDS),
            )
        )
    session = Session(
        id=7,
        title=draw(TITLES),
        created_at=draw(SECONDS),
        updated_at=draw(SECONDS),
        model=draw(TEXTS),
        system_prompt=draw(TEXTS),
        head_turn_id=draw(st.sampled_from([None, *(turn.id for turn in turns)])),
    )
    return SessionRecord(session=session, turns=tuple(turns))


@given(records())
def test_json_comes_back_without_loss_and_drives_no_terminal(record: SessionRecord) -> None:
    text = to_json(record)
    assert parse_record(text.encode()) == record
    assert not DRIVING & set(text)


@settings(max_examples=25, deadline=None)
@given(records())
def test_an_imported_session_is_the_exported_one_under_other_numbers(record: SessionRecord) -> None:
    with tempfile.TemporaryDirectory() as folder, SessionStore(Path(folder) / "d" / "sessions.db") as store:
        store.begin_turn(store.create().result().id, None, "takes the first numbers", "m").result()
        added = store.add(record).result()
        found = store.record(added.id).result()
    numbers = {new.id: old.id for new, old in zip(found.turns, record.turns, strict=True)}
    turns = tuple(
        replace(turn, id=numbers[turn.id], session_id=7, parent_id=turn.parent_id and numbers[turn.parent_id])
        for turn in found.turns
    )
    assert turns == record.turns
    head = found.session.head_turn_id
    session = replace(found.session, id=7, head_turn_id=head and numbers[head], turn_count=0)
    assert session == record.session
    assert [numbers[turn.id] for turn in found.branch()] == [turn.id for turn in record.branch()]


@given(records())
def test_markdown_holds_the_branch_and_drives_no_terminal(record: SessionRecord) -> None:
    text = to_markdown(record)
    assert text.startswith("# ")
    assert text.count("## you\n") >= len(record.branch())
    assert not DRIVING & set(text)


def test_markdown_reads_as_a_talk() -> None:
    answer = Turn(
        id=1,
        session_id=1,
        parent_id=None,
        prompt="Why?",
        reply="Because.",
        reasoning="hm\nwell",
        state=TurnState.FAILED,
        note="Out of\nmemory.",
        model="guide",
    )
    session = Session(
        id=1, title="notes", created_at=0.0, updated_at=0.0, system_prompt="Be brief.", head_turn_id=1
    )
    title, _, *lines = to_markdown(SessionRecord(session=session, turns=(answer,))).split("\n\n")
    assert title == "# notes"
    assert "\n".join(lines).splitlines() == [
        "## system",
        "Be brief.",
        "## you",
        "Why?",
        "## guide",
        "> *reasoning*",
        ">",
        "> hm",
        "> well",
        "Because.",
        "*(failed: Out of memory.)*",
    ]


def test_a_time_outside_the_calendar_has_no_date() -> None:
    session = Session(id=1, title="", created_at=1e300, updated_at=0.0)
    assert to_markdown(SessionRecord(session=session)) == "# Untitled\n"


def document(**changes: Any) -> dict[str, Any]:
    turn = Turn(id=1, session_id=1, parent_id=None, prompt="hi", state=TurnState.FINISHED)
    session = Session(id=1, title="t", created_at=1.0, updated_at=1.0, head_turn_id=1)
    parsed: dict[str, Any] = json.loads(to_json(SessionRecord(session=session, turns=(turn,))))
    for path, value in changes.items():
        place = {"session": parsed["session"], "turn": parsed["turns"][0]}.get(path.partition("_")[0], parsed)
        place[path.partition("_")[2] if place is not parsed else path] = value
    return parsed


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "another"},
        {"version": 2},
        {"version": True, "turns": []},
        {"unknown": 1},
        {"session": []},
        {"turns": {}},
        {"turns": [1]},
        {"turns": []},
        {"session_id": -1},
        {"session_id": 2**63},
        {"session_id": True},
        {"session_title": None},
        {"session_created_at": 1e20},
        {"session_created_at": "1"},
        {"session_updated_at": True},
        {"session_head_turn_id": 2},
        {"session_unknown": 0},
        {"turn_id": 1.0},
        {"turn_parent_id": 1},
        {"turn_parent_id": "1"},
        {"turn_prompt": 1},
        {"turn_state": "odd"},
        {"turn_state": []},
        {"turn_decode_tps": -1.0},
        {"turn_decode_tps": 10**400},
        {"turn_prompt_tokens": 1.5},
        {"turn_unknown" * 50: 0},
    ],
)
def test_what_no_session_can_hold_is_refused_in_a_sentence(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidExport, match="no session") as refused:
        parse_record(json.dumps(document(**changes)).encode())
    assert refused.value.hint
    assert len(str(refused.value)) < 250


def test_a_missing_field_is_named() -> None:
    parsed = document()
    del parsed["turns"][0]["note"]
    with pytest.raises(InvalidExport, match="no field 'note'"):
        parse_record(json.dumps(parsed).encode())


def test_a_turn_that_comes_twice_is_refused() -> None:
    parsed = document()
    parsed["turns"] *= 2
    with pytest.raises(InvalidExport, match="twice"):
        parse_record(json.dumps(parsed).encode())


@pytest.mark.parametrize(
    "found",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"NaN",
        b'{"version": ' + b"9" * 10_000 + b"}",
    ],
)
def test_what_is_no_json_of_ours_is_refused(found: bytes) -> None:
    with pytest.raises(InvalidExport):
        parse_record(found)


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_import(found: bytes) -> None:
    with pytest.raises(InvalidExport):
        parse_record(found)


def test_more_than_anyone_says_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(imports, "MOST_TURNS", 0)
    with pytest.raises(InvalidExport, match="at most 0"):
        parse_record(json.dumps(document()).encode())
    monkeypatch.setattr(imports, "LARGEST_BYTES", 10)
    (tmp_path / "large").write_bytes(b" " * 1000)
    with pytest.raises(InvalidExport, match="larger"):
        read_export(tmp_path / "large")


def test_a_reply_under_way_is_imported_as_interrupted_and_bad_text_replaced() -> None:
    parsed = document(turn_state="streaming", turn_reply="a\ud800\0", session_title="two\nlines")
    record = parse_record(json.dumps(parsed).encode())
    assert record.turns[0].state is TurnState.INTERRUPTED
    assert record.turns[0].reply == "a\ufffd\ufffd"
    assert record.session.title == "two lines"


def test_an_export_is_written_for_its_owner_and_replaces_only_when_told(tmp_path: Path) -> None:
    path = tmp_path / "talk.md"
    write_export(path, "first")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(StorageFailed, match="File exists"):
        write_export(path, "second")
    assert path.read_text() == "first"
    write_export(path, "second \ud800", replace=True)
    assert path.read_text() == "second ?"
    assert [found.name for found in tmp_path.iterdir()] == ["talk.md"]


def test_an_export_that_cannot_be_read_or_written_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed):
        write_export(tmp_path / "none" / "talk.md", "x")
    with pytest.raises(InvalidExport, match="No such file"):
        read_export(tmp_path / "none")
    with pytest.raises(InvalidExport, match="directory"):
        read_export(tmp_path)


def test_an_export_is_read_back_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "talk.json").write_text(json.dumps(document()))
    assert read_export(tmp_path / "talk.json").turns[0].prompt == "hi"
