"""What would go where, told without loading anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.tui.verbs import folders
from tui import cli

GIB = 2**30


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("VRAMBLE_HOME", str(tmp_path / "home"))
    return str(folders.sound(tmp_path / "tiny"))


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert cli.run(["plan", *words, "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    document = json.loads(captured.out)
    return dict(document)


def test_the_document_counts_the_model(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    document = planned(capsys, folder, "--context", "128")
    assert document["model"] == {
        "folder": folder,
        "architecture": "LlamaForCausalLM",
        "parameters": folders.parameters(),
        "weight_bytes": 4 * folders.parameters(),
        "dtype": "F32",
        "context_window": 4096,
        "warnings": ["It has no chat template; it may only continue text."],
    }
    assert document["context_window"] == 128
    assert document["kv_constant_bytes"] == 0


def test_a_token_of_cache_is_keys_and_values_of_every_layer(
    folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    document = planned(capsys, folder)
    assert document["kv_bytes_per_token"] == 2 * folders.LAYERS * folders.HIDDEN * 4


def test_an_imaginary_gpu_takes_the_whole_model_and_is_called_imaginary(
    folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    document = planned(capsys, folder, "--gpu", "90=20GiB", "--ram", "8GiB")
    assert document["fits"] == "gpu"
    assert set(document["device_map"].values()) == {90}
    gpu = next(device for device in document["devices"] if device["name"] == "gpu:90")
    assert gpu["budget_bytes"] == 20 * GIB
    parts = ("weight_bytes", "kv_bytes", "activation_bytes", "runtime_bytes")
    assert gpu["predicted_bytes"] == sum(gpu[part] for part in parts)
    assert any("gpu:90" in reason and "no gpu" in reason for reason in document["reasons"])


def test_what_does_not_fit_is_planned_as_such(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    document = planned(capsys, folder, "--ram", "0", "--disk", "0")
    assert document["fits"] == "no"
    assert document["layers"] == []
    assert document["reasons"]


def test_the_table_names_devices_and_reasons(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["plan", folder]) == 0
    said = capsys.readouterr().out
    assert "LlamaForCausalLM" in said
    assert "KV cache" in said
    assert "RAM" in said
    assert "It fits" in said
