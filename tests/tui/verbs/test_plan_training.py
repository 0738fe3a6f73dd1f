"""`vramble plan --train`: the estimate as JSON and as a table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tui.verbs import folders
from tests.tui.verbs.scripts import use_scripted_engine
from tui import cli
from tui.verbs.table import width

PARTS = (
    "weight_bytes",
    "adapter_bytes",
    "master_bytes",
    "gradient_bytes",
    "optimizer_bytes",
    "activation_bytes",
    "buffer_bytes",
    "runtime_bytes",
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VRAMBLE_HOME", str(tmp_path / "home"))
    use_scripted_engine(tmp_path, monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(folders.sound(tmp_path / "tiny"))


def trained(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert cli.run(["plan", *words, "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return dict(json.loads(captured.out)["training"])


def test_full_training_is_a_key_of_the_document(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    training = trained(capsys, folder, "--train", "full")
    count = folders.parameters()
    assert training["kind"] == "full"
    assert training["optimizer"] == "adamw"
    assert (training["batch"], training["sequence"]) == (1, 2048)
    assert training["parameters"] == training["trained_parameters"] == count
    assert sum(training[part] for part in PARTS[:5]) == 16 * count
    assert training["total_bytes"] == sum(training[part] for part in PARTS)
    assert training["gpus"] == []


def test_every_flag_is_heard(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--train", "lora", "--optimizer", "adafactor", "--batch", "3", "--seq", "64", "--rank", "4")
    training = trained(capsys, folder, *words, "--checkpointing", "--quant", "nf4")
    heard = {"optimizer": "adafactor", "batch": 3, "sequence": 64, "rank": 4, "quantization": "nf4"}
    assert {name: training[name] for name in heard} == heard
    assert training["checkpointing"] is True
    assert training["trained_parameters"] > 0
    assert training["weight_bytes"] < 2 * training["parameters"]


def test_each_gpu_says_whether_it_holds_all_or_its_share(
    folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    training = trained(capsys, folder, "--train", "full", "--gpu", "0=20GiB", "--gpu", "1=1MiB")
    large, little = training["gpus"]
    assert (large["fits"], large["fits_sharded"]) == (True, True)
    assert (little["fits"], little["fits_sharded"]) == (False, False)
    assert large["predicted_bytes"] == training["total_bytes"]
    assert large["sharded_bytes"] < training["total_bytes"]


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_the_table_has_a_line_for_each_part_within_eighty_columns(
    kind: str, folder: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.run(["plan", folder, "--train", kind, "--gpu", "20GiB", "--gpu", "20GiB"]) == 0
    said = capsys.readouterr().out
    for part in ("weights", "gradients", "optimizer states", "activations", "buffers", "total", "gpu:1"):
        assert f"\n{part}" in said
    assert ("adapters" in said) is (kind == "lora")
    assert max(width(line) for line in said.replace(folder, "").splitlines()) <= 80


def test_without_the_flag_nothing_is_said_of_training(
    folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["plan", folder, "--json"]) == 0
    assert "training" not in json.loads(capsys.readouterr().out)


def test_every_key_of_the_document_is_in_the_docs(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["plan", folder, "--json", "--train", "lora", "--gpu", "0=1MiB"]) == 0
    document = json.loads(capsys.readouterr().out)
    docs = (Path(__file__).parents[3] / "docs" / "cli.md").read_text(encoding="utf-8")
    document["device_map"] = {}
    missing = {key for key in _keys(document) if f"`{key}" not in docs}
    assert not missing


def _keys(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _keys(inner)
