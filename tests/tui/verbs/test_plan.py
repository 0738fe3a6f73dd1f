"""What would go where, told without loading anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine import find_model
from tests.tui.verbs import folders
from tests.tui.verbs.scripts import use_scripted_engine
from tui import cli
from tui.verbs.table import width

GIB = 2**30
TOP_KEYS = {
    "model",
    "context_window",
    "quantization",
    "strategy",
    "is_exact",
    "kv_bytes_per_token",
    "kv_constant_bytes",
    "kv_bytes",
    "devices",
    "layers",
    "device_map",
    "fits",
    "forecast",
    "reasons",
    "alternatives",
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VRAMBLE_HOME", str(tmp_path / "home"))
    use_scripted_engine(tmp_path, monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(folders.sound(tmp_path / "tiny"))


@pytest.fixture
def config_alone(tmp_path: Path) -> Path:
    return folders.config_alone(tmp_path / "wanted")


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert cli.run(["plan", *words, "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return dict(json.loads(captured.out))


def test_the_document_counts_the_model(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    document = planned(capsys, folder, "--context", "128")
    assert document["model"] == {
        "folder": folder,
        "architecture": "LlamaForCausalLM",
        "parameters": folders.parameters(),
        "weight_bytes": 4 * folders.parameters(),
        "dtype": "F32",
        "context_window": 4096,
        "is_on_disk": True,
        "warnings": ["It has no chat template; it may only continue text."],
    }
    assert document["context_window"] == 128
    assert document["kv_constant_bytes"] == 0


def test_the_document_has_every_key(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    document = planned(capsys, folder)
    assert set(document) == TOP_KEYS
    assert {"decode_tps", "time_to_first_token", "load_seconds", "is_measured"} <= set(document["forecast"])
    assert set(document["layers"][0]) == {"name", "bytes", "tier", "device"}
    assert [layer["name"] for layer in document["layers"]] == list(document["device_map"])


def test_what_a_device_holds_is_the_sum_of_its_parts_and_of_its_layers(
    folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    document = planned(capsys, folder, "--gpu", "90=20GiB")
    for device in document["devices"]:
        parts = ("weight_bytes", "kv_bytes", "activation_bytes", "runtime_bytes")
        assert device["predicted_bytes"] == sum(device[part] for part in parts)
        resting = [layer["bytes"] for layer in document["layers"] if layer["device"] == device["name"]]
        assert device["weight_bytes"] == sum(resting)


def test_a_token_of_cache_is_keys_and_values_of_every_layer(
    folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    document = planned(capsys, folder, "--context", "100")
    assert document["kv_bytes_per_token"] == 2 * folders.LAYERS * folders.HIDDEN * 4
    assert document["kv_bytes"] == 100 * document["kv_bytes_per_token"]


def test_a_sliding_window_grows_like_the_others_and_then_stops(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folders.sound(tmp_path / "sliding")
    changed = {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 16}
    (folder / "config.json").write_text(json.dumps(folders.CONFIG | changed))
    document = planned(capsys, str(folder), "--context", "1000")
    per_token = 2 * folders.LAYERS * folders.HIDDEN * 4
    assert document["kv_bytes_per_token"] == per_token
    assert document["kv_bytes"] < 100 * per_token


def test_an_imaginary_gpu_takes_the_whole_model_and_is_called_imaginary(
    folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    document = planned(capsys, folder, "--gpu", "90=20GiB", "--ram", "8GiB")
    assert document["fits"] == "gpu"
    assert set(document["device_map"].values()) == {90}
    gpu = next(device for device in document["devices"] if device["name"] == "gpu:90")
    assert gpu["budget_bytes"] == 20 * GIB
    assert any("gpu:90" in reason and "no gpu" in reason for reason in document["reasons"])
    assert document["forecast"]["is_measured"] is False


def test_what_does_not_fit_is_planned_as_such(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    document = planned(capsys, folder, "--ram", "0", "--disk", "0")
    assert document["fits"] == "no"
    assert document["layers"] == []
    assert document["forecast"] is None
    assert document["reasons"]


def test_a_dry_run_that_is_not_possible_is_named_and_closed_forms_stand_in(
    folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    document = planned(capsys, folder)
    assert document["is_exact"] is False
    assert any("closed forms" in reason and "scripted" in reason for reason in document["reasons"])
    assert any("could not be measured" in reason for reason in document["reasons"])


def test_a_measurement_that_was_asked_for_and_fails_is_the_answer(
    folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["plan", folder, "--measure"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "scripted" in captured.err


def test_the_text_names_devices_modules_speed_and_reasons(
    folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["plan", folder]) == 0
    captured = capsys.readouterr()
    said = " ".join(captured.out.split())
    assert captured.err == ""
    for part in ("LlamaForCausalLM", "KV cache", "RAM", "model.layers.0 to 1", "It fits", "tok/s", "typical"):
        assert part in said


@pytest.mark.parametrize(
    "budgets", [(), ("--gpu", "0=1GiB", "--gpu", "1=2GiB"), ("--ram", "0", "--disk", "0")]
)
def test_the_text_is_no_wider_than_eighty_columns(
    config_alone: Path,
    budgets: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.run(["plan", str(config_alone), *budgets]) == 0
    lines = capsys.readouterr().out.replace(str(config_alone), "").splitlines()
    assert max(width(line) for line in lines) <= 80


@pytest.mark.parametrize("name", ["", "config.json"])
def test_config_json_alone_is_enough(
    config_alone: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    document = planned(capsys, str(config_alone / name))
    assert document["model"]["parameters"] == folders.parameters()
    assert document["model"]["weight_bytes"] == 4 * folders.parameters()
    assert document["model"]["is_on_disk"] is False
    assert sum(layer["bytes"] for layer in document["layers"]) == 4 * folders.parameters()


def test_a_config_beside_weights_is_the_whole_folder(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert planned(capsys, f"{folder}/config.json")["model"]["is_on_disk"] is True


def test_the_document_has_no_folder_of_the_machine_but_the_models(
    config_alone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = planned(capsys, str(config_alone))
    del document["model"]["folder"]
    assert str(tmp_path) not in json.dumps(document)


@pytest.mark.parametrize("strategy", ["auto", "balanced", "sequential"])
def test_a_strategy_is_told_back(folder: str, strategy: str, capsys: pytest.CaptureFixture[str]) -> None:
    document = planned(capsys, folder, "--strategy", strategy, "--gpu", "0=20GiB", "--gpu", "1=20GiB")
    assert document["strategy"] == strategy


def test_a_device_map_of_ones_own_is_followed(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted: dict[str, int | str] = {
        "model.embed_tokens": 1,
        "model.layers.0": 0,
        "model.layers.1": "cpu",
        "model.norm": 0,
        "lm_head": 0,
    }
    file = tmp_path / "map.json"
    file.write_text(json.dumps(wanted))
    document = planned(capsys, folder, "--strategy", str(file), "--gpu", "0=20GiB", "--gpu", "1=20GiB")
    assert document["device_map"] == wanted
    assert document["strategy"] == "custom"


def test_a_plan_writes_nothing_into_the_models_folder(folder: str) -> None:
    before = sorted(Path(folder).iterdir())
    assert cli.run(["plan", folder, "--json"]) == 0
    assert sorted(Path(folder).iterdir()) == before


def test_the_guide_is_planned_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    document = planned(capsys, "guide", "--gpu", "90=20GiB")
    assert document["model"]["folder"] == str(find_model("guide").folder)
    assert document["fits"] == "gpu"
