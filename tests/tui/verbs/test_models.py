"""What is on this disk, and whether it fits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.tui.verbs import folders
from tui import cli


@pytest.fixture(autouse=True)
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    (home / "settings.toml").write_text(f'model_folders = ["{tmp_path / "shelf"}"]\n')
    monkeypatch.setenv("VRAMBLE_HOME", str(home))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "ms"))
    folders.sound(tmp_path / "shelf" / "tiny")
    folders.pickled(tmp_path / "shelf" / "old")
    folders.sound(tmp_path / "hf" / "models--owner--cached" / "snapshots" / "abc")
    return tmp_path / "shelf"


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, dict[str, Any]]:
    assert cli.run(["models", "--json", *words]) == 0
    return {model["name"]: model for model in json.loads(capsys.readouterr().out)}


def test_folders_and_caches_are_listed_with_how_they_fit(capsys: pytest.CaptureFixture[str]) -> None:
    models = listed(capsys, "--ram", "4GiB")
    assert {"tiny", "old", "owner/cached"} <= set(models)
    assert models["owner/cached"]["hub"] == "huggingface"
    assert models["tiny"]["fits"] in {"gpu", "gpu+ram"}
    assert models["tiny"]["problem"] == ""


def test_a_model_of_pickles_is_listed_with_its_problem(capsys: pytest.CaptureFixture[str]) -> None:
    old = listed(capsys)["old"]
    assert old["fits"] == ""
    assert "pickle" in old["problem"]


def test_a_model_beyond_the_budgets_does_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(capsys, "--ram", "0", "--disk", "0")["tiny"]["fits"] == "no"


def test_the_table_holds_a_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[0] == "name"
    assert any(line.startswith("tiny ") for line in lines)
    assert any(line.startswith("owner/cached ") for line in lines)


def test_a_sound_model_is_checked_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["models", "--check", "tiny"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("tiny is sound")
    assert "chat template" in said


def test_a_check_as_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["models", "--check", "owner/cached", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "owner/cached"


def test_every_model_that_fits_has_a_predicted_speed(capsys: pytest.CaptureFixture[str]) -> None:
    models = listed(capsys, "--ram", "4GiB")
    assert models["tiny"]["decode_tps"] > 0
    assert models["tiny"]["is_measured"] is False
    assert models["old"]["decode_tps"] is None
    assert listed(capsys, "--ram", "0", "--disk", "0")["tiny"]["decode_tps"] is None


def test_the_table_says_that_speeds_are_typical_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["models"]) == 0
    said = capsys.readouterr().out
    assert "tok/s" in said
    assert "--measure" in said.splitlines()[-1]


def test_no_engine_is_started_for_a_list(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("engine.process.EngineProcess.start", lambda _: pytest.fail("an engine was started"))
    assert listed(capsys)


def test_a_check_names_what_is_wrong_among_all_that_was_looked_at(
    shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders.truncated(shelf / "short")
    assert cli.run(["models", "--check", "short"]) == 1
    said = capsys.readouterr()
    assert "vramble: model.safetensors is truncated" in said.err
    assert any(line.startswith("fail  headers") for line in said.out.splitlines())
    assert any(line.startswith("ok    class") for line in said.out.splitlines())


def test_a_failed_check_as_json_is_one_document_with_an_error(
    shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["models", "--check", "old", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert "pickle" in document["error"]["message"]
    assert "vramble convert" in document["error"]["hint"]
    assert {check["name"]: check["status"] for check in document["checks"]}["format"] == "fail"


def test_an_adapter_without_its_base_is_listed_with_what_to_get(
    capsys: pytest.CaptureFixture[str], shelf: Path
) -> None:
    (shelf / "mine").mkdir()
    said = {"peft_type": "LORA", "r": 4, "base_model_name_or_path": "owner/nowhere"}
    (shelf / "mine" / "adapter_config.json").write_text(json.dumps(said))
    mine = listed(capsys)["mine"]
    assert mine["folder"] == str(shelf / "mine")
    assert "vramble pull hf:owner/nowhere" in mine["problem"]


def test_an_adapter_that_does_not_fit_its_base_is_listed_with_the_reason(
    capsys: pytest.CaptureFixture[str], shelf: Path
) -> None:
    (shelf / "mine").mkdir()
    said = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "base_model_name_or_path": "owner/cached"}
    (shelf / "mine" / "adapter_config.json").write_text(json.dumps(said))
    mine = listed(capsys)["mine"]
    assert mine["format"] == "LoRA r4 of owner/cached"
    assert "adapter_model.safetensors is missing" in mine["problem"]
