"""`vramble convert`: nothing without a yes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import engine
from tests.pty_driver import terminal
from tests.tui.verbs import folders
from tui import cli

MADE = engine.Converted(files=("model.safetensors",), tensors=21, total_bytes=4096, left_out=("step",))


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VRAMBLE_HOME", str(tmp_path / "home"))
    return folders.pickled(tmp_path / "old")


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that would be converted; nothing is."""
    asked: list[Path] = []

    def convert(folder: Path, on_progress: Any) -> engine.Converted:
        asked.append(folder)
        return MADE

    monkeypatch.setattr(engine, "convert_pickles", convert, raising=False)
    return asked


def test_without_a_terminal_it_wants_a_flag(
    model: Path, converted: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["convert", str(model)]) == 2
    assert "Give --yes" in capsys.readouterr().err
    assert not converted


def test_with_the_flag_it_tells_what_came_of_it(
    model: Path, converted: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["convert", "--yes", str(model)]) == 0
    said = capsys.readouterr().out
    assert converted == [model]
    assert "old: 21 tensors, 4.0 KiB, in model.safetensors." in said
    assert "- Not written, being no tensors of their own: step." in said
    assert "only Python's own calls were refused" in said


def test_json_is_one_document(model: Path, converted: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["convert", "--yes", "--json", str(model)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["model"], document["files"], document["has_no_network"]) == (
        "old",
        ["model.safetensors"],
        False,
    )


def test_on_a_terminal_it_asks_and_takes_no_for_an_answer(model: Path) -> None:
    with terminal("convert", str(model), columns=100) as opened:
        opened.wait_for("Convert it? [y/N]")
        opened.send("n\r")
        assert opened.wait(10) == 1
        assert "Nothing was converted." in opened.text
    assert sorted(os.listdir(model)) == ["config.json", "pytorch_model.bin", "tokenizer.json"]
