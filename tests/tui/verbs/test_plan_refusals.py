"""Configurations that say what cannot be, wrong maps and wrong flags: one sentence, soon, and no engine."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from tests.tui.verbs import folders
from tests.tui.verbs.scripts import use_scripted_engine
from tui import cli

SECONDS = 2.0
BROKEN_FIELDS: dict[str, dict[str, object]] = {
    "no layers said": {"num_hidden_layers": None},
    "no width said": {"hidden_size": None},
    "no heads said": {"num_attention_heads": None},
    "no vocabulary said": {"vocab_size": None},
    "negative layers": {"num_hidden_layers": -1},
    "a million layers": {"num_hidden_layers": 1_000_000},
    "no layers at all": {"num_hidden_layers": 0},
    "absurd width": {"hidden_size": 10**30},
    "a width in words": {"hidden_size": "wide"},
    "a width as a list": {"hidden_size": [8]},
    "no heads at all": {"num_attention_heads": 0},
    "more heads than elements": {"num_attention_heads": 9},
    "negative key heads": {"num_key_value_heads": -2},
    "absurd vocabulary": {"vocab_size": 10**12},
    "a negative context": {"max_position_embeddings": -1},
    "an absurd context": {"max_position_embeddings": 10**40},
    "a negative window": {"sliding_window": -1},
    "a negative MLP": {"intermediate_size": -3},
    "too few layer types": {"layer_types": ["full_attention"]},
    "layers that are true": {"num_hidden_layers": True},
    "an unknown architecture": {"model_type": "nonsense", "architectures": ["NonsenseForCausalLM"]},
    "no architecture": {"model_type": None, "architectures": None},
    "no text model": {"model_type": "bert", "architectures": ["BertModel"]},
}
BROKEN_FILES: dict[str, bytes] = {
    "empty": b"",
    "no JSON": b"\x00\xff\xfe",
    "truncated": b'{"model_type": "llama", ',
    "a list": b"[1, 2, 3]",
    "a number": b"7",
    "too deep": b"[" * 100_000,
    "a web page": b"<!DOCTYPE html><html></html>",
    "a pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n",
}
MAPS: dict[str, object] = {
    "no JSON": b"{",
    "binary": b"\xff\x00",
    "a list": [1],
    "empty": {},
    "a device that is a list": {"model": [0]},
    "a device that is null": {"model": None},
    "a device that is true": {"model": True},
    "a module twice": b'{"model": 0, "model": 1}',
    "too deep": b'{"a":' * 100_000,
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VRAMBLE_HOME", str(tmp_path / "home"))


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> NoReturn:
        pytest.fail("an engine was started")

    monkeypatch.setattr("tui.verbs.assistant.Talk", refuse)


def refused(capsys: pytest.CaptureFixture[str], code: int, *words: str) -> str:
    began = time.monotonic()
    assert cli.run(["plan", *words]) == code
    assert time.monotonic() - began < SECONDS
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("vramble: ")
    assert captured.err.count("\n") == 1
    assert len(captured.err) < 500
    assert "Traceback" not in captured.err
    return captured.err


@pytest.mark.usefixtures("no_engine")
@pytest.mark.parametrize("kind", BROKEN_FIELDS)
def test_a_config_that_says_what_cannot_be_is_one_sentence(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folders.config_alone(tmp_path / "broken", **BROKEN_FIELDS[kind])
    refused(capsys, 1, str(folder))


@pytest.mark.usefixtures("no_engine")
@pytest.mark.parametrize("kind", BROKEN_FILES)
def test_a_config_that_is_none_is_one_sentence(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folders.config_alone(tmp_path / "broken")
    (folder / "config.json").write_bytes(BROKEN_FILES[kind])
    refused(capsys, 1, str(folder / "config.json"))


def _folder(path: Path) -> None:
    path.mkdir()


def _link_out(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.usefixtures("no_engine")
@pytest.mark.parametrize("make", [_folder, os.mkfifo, _link_out])
def test_a_config_that_is_no_file_is_one_sentence(
    make: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "odd").mkdir()
    make(tmp_path / "odd" / "config.json")
    refused(capsys, 1, str(tmp_path / "odd"))


@pytest.mark.usefixtures("no_engine")
def test_a_hostile_architecture_is_named_harmlessly_and_shortly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = ["\x1b]0;owned\x07[/red]" + "x" * 10_000]
    folder = folders.config_alone(tmp_path / "hostile", model_type="nonsense", architectures=named)
    assert "\x1b" not in refused(capsys, 1, str(folder))


@pytest.mark.usefixtures("no_engine")
@pytest.mark.parametrize("kind", MAPS)
def test_a_file_that_is_no_device_map_is_wrong_usage(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = MAPS[kind]
    file = tmp_path / "map.json"
    file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    folder = folders.sound(tmp_path / "tiny")
    assert "--strategy" in refused(capsys, 2, str(folder), "--strategy", str(file))


@pytest.mark.usefixtures("no_engine")
def test_a_strategy_that_is_neither_a_name_nor_a_file_is_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, 2, str(folders.sound(tmp_path / "tiny")), "--strategy", "fastest")
    assert "balanced" in said


WHOLE: dict[str, object] = {"model": 0, "lm_head": 0}
UNSOUND_MAPS: dict[str, dict[str, object]] = {
    "a parameter left out": {"model": 0},
    "a module that does not exist": WHOLE | {"model.layers.77": 0},
    "a GPU that does not exist": WHOLE | {"lm_head": 7},
    "a device that does not exist": WHOLE | {"lm_head": "tpu"},
}


@pytest.mark.parametrize("kind", UNSOUND_MAPS)
def test_a_device_map_that_does_not_suit_the_model_is_one_sentence(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_scripted_engine(tmp_path, monkeypatch)
    file = tmp_path / "map.json"
    file.write_text(json.dumps(UNSOUND_MAPS[kind]))
    folder = folders.sound(tmp_path / "tiny")
    refused(capsys, 2, str(folder), "--gpu", "0=20GiB", "--strategy", str(file))


@pytest.mark.usefixtures("no_engine")
@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (["--optimizer", "adamw"], "--optimizer"),
        (["--batch", "2"], "--batch"),
        (["--seq", "2"], "--seq"),
        (["--checkpointing"], "--checkpointing"),
        (["--rank", "8"], "--rank"),
        (["--train", "full", "--rank", "8"], "--rank"),
        (["--train", "half"], "--train"),
        (["--train", "lora", "--optimizer", "lion"], "--optimizer"),
        (["--train", "lora", "--rank", "0"], "--rank"),
        (["--train", "lora", "--batch", "-1"], "--batch"),
        (["--train", "full", "--batch", "9999999999"], "batch"),
    ],
)
def test_flags_of_training_that_cannot_be_meant_are_wrong_usage(
    words: list[str],
    cause: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = folders.sound(tmp_path / "tiny")
    assert cause in refused(capsys, 2, str(folder), *words)
