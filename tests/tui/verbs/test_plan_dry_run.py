"""A plan with the real engine: its dry run, what is kept of it, and what stands in for it."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests import tiny_models
from tui import cli

GPU = ("--gpu", "0=20GiB")
"""An imaginary one, for which nothing is measured."""
CHATGLM = {
    "architectures": ["ChatGLMModel"],
    "model_type": "chatglm",
    "auto_map": {"AutoConfig": "configuration_chatglm.ChatGLMConfig"},
    "hidden_size": 4096,
    "inner_hidden_size": 16384,
    "num_layers": 28,
    "num_attention_heads": 32,
    "vocab_size": 130528,
    "max_sequence_length": 2048,
    "torch_dtype": "float16",
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VRAMBLE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("VRAMBLE_BACKEND", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def config_alone(family: str, folder: Path) -> Path:
    folder.mkdir()
    config = (tiny_models.checkpoint(family) / "config.json").read_bytes()
    (folder / "config.json").write_bytes(config)
    return folder


def refuse_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> NoReturn:
        pytest.fail("an engine was started")

    monkeypatch.setattr("tui.verbs.assistant.Talk", refuse)


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert cli.run(["plan", *words, "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return dict(json.loads(captured.out))


def test_a_dry_run_is_exact_and_the_next_plan_starts_no_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = config_alone("qwen3", tmp_path / "wanted")
    first = planned(capsys, str(folder), *GPU)
    assert first["is_exact"] is True
    refuse_engines(monkeypatch)
    again = planned(capsys, str(folder), *GPU)
    assert again["model"] == first["model"]
    assert again["layers"] == first["layers"]
    whole = planned(capsys, str(tiny_models.checkpoint("qwen3")), *GPU)
    assert whole["is_exact"] is True
    assert whole["model"]["parameters"] == first["model"]["parameters"]


def test_a_dry_run_that_takes_too_long_is_left_for_closed_forms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tui.verbs.assistant.DRY_RUN_SECONDS", 0.0)
    document = planned(capsys, str(config_alone("llama", tmp_path / "wanted")), *GPU)
    assert document["is_exact"] is False
    assert any("took more than" in reason for reason in document["reasons"])


def test_a_repository_with_code_is_planned_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refuse_engines(monkeypatch)
    (tmp_path / "chatglm").mkdir()
    (tmp_path / "chatglm" / "config.json").write_text(json.dumps(CHATGLM))
    (tmp_path / "chatglm" / "configuration_chatglm.py").write_text("raise SystemExit('it ran')\n")
    document = planned(capsys, str(tmp_path / "chatglm"), *GPU, "--context", "2048")
    assert document["model"]["architecture"] == "ChatGLMModel"
    assert document["is_exact"] is False
    assert document["kv_bytes_per_token"] == 28 * 2 * 4096 * 2


def test_the_largest_llama_is_planned_within_six_seconds_of_work(tmp_path: Path) -> None:
    fields: dict[str, object] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 16384,
        "intermediate_size": 53248,
        "num_hidden_layers": 126,
        "num_attention_heads": 128,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "torch_dtype": "bfloat16",
    }
    (tmp_path / "config.json").write_text(json.dumps(fields))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = [sys.executable, "-m", "tui", "plan", str(tmp_path / "config.json"), "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    document = json.loads(done.stdout)
    assert done.stderr == ""
    assert document["model"]["parameters"] == 405_853_388_800
    assert document["kv_bytes_per_token"] == 126 * 2 * 8 * 128 * 2
    # Seconds of work, not of the clock, which other processes on this machine share.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 6
