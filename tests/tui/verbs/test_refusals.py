"""What is no model is refused in one sentence, whichever command meets it, and nothing is loaded for it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tui.verbs import folders
from tests.tui.verbs.scripts import use_scripted_engine
from tui import cli

UNSOUND: dict[str, tuple[Callable[[Path], Path], str]] = {
    "no model": (folders.without_config, "config.json"),
    "truncated": (folders.truncated, "model.safetensors"),
    "pickle only": (folders.pickled, "pickle"),
    "a file": (folders.as_file, "file"),
    "absent": (lambda path: path, ""),
}
NOT_PLANNED = ("no model", "a file", "absent")
"""What does not even say what it would be; the others are planned from their config.json."""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VRAMBLE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "ms"))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))


def one_sentence(said: str, cause: str) -> None:
    assert cause.lower() in said.lower()
    assert said.startswith("vramble: ")
    assert said.count("\n") == 1
    assert "Traceback" not in said


@pytest.mark.parametrize("kind", UNSOUND)
@pytest.mark.parametrize("words", [["ask", "hello", "-m"], ["models", "--check"]])
def test_what_is_no_model_is_one_sentence_and_exit_1(
    kind: str, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, cause = UNSOUND[kind]
    assert cli.run([*words, str(make(tmp_path / "model"))]) == 1
    captured = capsys.readouterr()
    is_looked_at = words[0] == "models" and kind not in NOT_PLANNED
    assert bool(captured.out) == is_looked_at
    one_sentence(captured.err, cause)


@pytest.mark.parametrize("kind", NOT_PLANNED)
def test_what_has_no_config_is_not_planned(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, cause = UNSOUND[kind]
    assert cli.run(["plan", str(make(tmp_path / "model"))]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    one_sentence(captured.err, cause)


@pytest.mark.parametrize("kind", sorted(UNSOUND.keys() - NOT_PLANNED))
def test_weights_that_cannot_be_loaded_are_planned_with_a_warning(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_scripted_engine(tmp_path, monkeypatch)
    make, cause = UNSOUND[kind]
    assert cli.run(["plan", "--json", str(make(tmp_path / "model"))]) == 0
    model = json.loads(capsys.readouterr().out)["model"]
    assert model["parameters"] == folders.parameters()
    assert any(cause in warning for warning in model["warnings"])


@pytest.mark.parametrize("name", ["nosuchmodel", "hf:nobody/nothing", "ms:nobody/nothing", "./nowhere"])
@pytest.mark.parametrize("words", [["ask", "--json", "hello", "-m"], ["plan", "--json"]])
def test_an_unknown_name_is_one_sentence_and_one_document(
    name: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([*words, name]) == 1
    captured = capsys.readouterr()
    one_sentence(captured.err, "")
    error = json.loads(captured.out)["error"]
    assert error["message"]
    assert error["hint"]


def test_an_unreadable_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folders.sound(tmp_path / "model")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("os.listdir", refuse)
    monkeypatch.setattr("os.scandir", refuse)
    assert cli.run(["plan", str(folder)]) == 1
    one_sentence(capsys.readouterr().err, "permission denied")


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (["ask", "-m", "guide", ""], "no question"),
        (["ask", "-m", "guide", "  \n "], "no question"),
        (["ask", "hi", "--gpu", "lots"], "--gpu"),
        (["ask", "hi", "--temperature", "9"], "temperature"),
        (["ask", "hi", "--top-k", "many"], "--top-k"),
        (["ask", "hi", "--stop", ""], "stop"),
        (["plan", "guide", "--ram", "much"], "--ram"),
        (["plan"], "MODEL"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_2(
    words: list[str], cause: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(words) == 2
    one_sentence(capsys.readouterr().err, cause)
