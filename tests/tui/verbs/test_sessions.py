"""Saved talk on the command line."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from sessions import Ending, SessionStore, TurnState
from tui import cli, paths


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VRAMBLE_HOME", str(tmp_path / "home"))
    with SessionStore(paths.sessions_file()) as store:
        for prompt in ("Why is prefill fast?", "显存 \x1b]0;hi\x07 [red]"):
            session = store.create(model="tiny").result()
            turn = store.begin_turn(session.id, None, prompt, "tiny").result()
            store.end_turn(turn.id, Ending(state=TurnState.FINISHED, finish_reason="stop")).result()
    return tmp_path


def test_they_are_listed_the_newest_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["sessions"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["id", "age", "turns", "model", "title"]
    assert [line.split()[0] for line in lines[1:]] == ["2", "1"]
    assert "Why is prefill fast?" in lines[2]


def test_the_list_as_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["sessions", "--json", "--limit", "1"]) == 0
    [session] = json.loads(capsys.readouterr().out)
    assert session["id"] == 2
    assert session["model"] == "tiny"


def test_a_search_shows_where_the_text_occurs(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["sessions", "search", "PREFILL"]) == 0
    said = capsys.readouterr().out
    assert "Why is prefill fast?" in said
    assert "显存" not in said


def test_a_search_without_a_hit_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["sessions", "search", "nowhere"]) == 0
    assert capsys.readouterr().out == "Nothing was found.\n"


def test_a_shown_session_drives_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["sessions", "show", "2"]) == 0
    said = capsys.readouterr().out
    assert "显存" in said
    assert "[red]" in said
    assert not set(said) & set("\x1b\x07")


def test_an_export_comes_back_by_an_import(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = home / "talk.json"
    assert cli.run(["sessions", "export", "1", "-o", str(file)]) == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert cli.run(["sessions", "import", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == 3
    assert cli.run(["sessions", "show", "3"]) == 0
    assert "Why is prefill fast?" in capsys.readouterr().out


def test_an_export_does_not_replace_a_file(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "kept").write_text("kept")
    assert cli.run(["sessions", "export", "1", "-o", str(home / "kept")]) == 1
    assert (home / "kept").read_text() == "kept"
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["show", "99"], 1, "99"),
        (["show", "abc"], 2, "abc"),
        (["show"], 2, "number"),
        (["show", "1", "2"], 2, "number"),
        (["search"], 2, "search TEXT"),
        (["import", "/nowhere.json"], 1, "/nowhere.json"),
        (["list", "x"], 2, "search TEXT"),
        (["burn", "1"], 2, "burn"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["sessions", *words, "--json"]) == code
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1
    assert json.loads(captured.out)["error"]["message"]


def test_a_file_that_is_no_export_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "junk.json").write_text("{}")
    assert cli.run(["sessions", "import", str(home / "junk.json")]) == 1
    assert "Traceback" not in capsys.readouterr().err
