"""--trust-remote-code: without it nothing of a repository runs; with it, stderr says what does."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import pytest

from engine.errors import EngineError, NeedsConsent
from tests.tui.verbs import code_folders
from tui import cli
from tui.options import ChatOptions
from tui.settings import Settings
from tui.verbs import chat
from tui.verbs.usage import Parser


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"replies": [{"text": "Yes."}], "load": {"needs_consent": True}}))
    monkeypatch.setenv("VRAMBLE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("VRAMBLE_BACKEND", f"scripted:{script}")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
    return code_folders.make(tmp_path / "strange\x1b[31m")


def test_without_the_flag_the_model_is_refused_with_its_files(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["ask", "-m", str(model), "Well?"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "modeling_x.py" in captured.err
    assert "--trust-remote-code" in captured.err


def test_with_the_flag_it_answers_and_says_what_ran(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["ask", "--trust-remote-code", "-m", str(model), "Well?"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "Yes.\n"
    assert "\x1b" not in captured.err
    for file in ("configuration_x.py", "modeling_x.py"):
        digest = hashlib.sha256((model / file).read_bytes()).hexdigest()
        assert f"{file} sha256:{digest}" in captured.err


def test_a_model_without_code_needs_no_flag_and_nothing_is_said(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["ask", "--trust-remote-code", "-m", "guide", "Well?"]) == 1  # the script wants consent
    assert "Running code" not in capsys.readouterr().err


def options(*words: str) -> ChatOptions:
    parser = Parser(prog="vramble")
    chat.add_arguments(parser)
    return chat.options_of(parser.parse_args(words), Settings())


def test_the_chat_takes_the_flag_for_the_model_that_it_begins_with(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert options(str(model)).trusted == ()
    found = options(str(model), "--trust-remote-code").trusted
    assert [file.name for file in found] == ["configuration_x.py", "modeling_x.py"]
    assert "sha256:" in capsys.readouterr().err


def test_code_that_is_not_there_is_refused_with_the_flag_too(model: Path) -> None:
    (model / "modeling_x.py").unlink()
    with pytest.raises(EngineError, match=r"modeling_x\.py") as caught:
        options(str(model), "--trust-remote-code")
    assert not isinstance(caught.value, NeedsConsent)


def test_the_list_says_that_it_runs_code_and_plans_it(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = model.parent / "home"
    home.mkdir(exist_ok=True)
    (home / "settings.toml").write_text(f"model_folders = [{json.dumps(str(model.parent / 'many'))}]\n")
    code_folders.make(model.parent / "many" / "strange")
    monkeypatch.setenv("HF_HUB_CACHE", str(home / "none"))
    assert cli.run(["models", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    found = next(one for one in listed if one["name"] == "strange")
    assert found["runs_code"] is True
    assert found["problem"] == ""
    assert found["fits"]
