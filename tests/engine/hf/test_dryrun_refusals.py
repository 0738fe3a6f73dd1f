"""Configs that no model can be built from: one sentence each, and nothing hangs or runs."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from engine.errors import CheckpointError, DamagedCheckpoint, EngineError, UnsafeCheckpoint, UnsupportedModel
from engine.hf import dryrun
from engine.hf.dryrun import dry_run
from engine.hf.dryrun_tally import NoDevice
from tests import tiny_models
from tests.engine.hf.dryruns import LLAMA_405B, described

LLAMA: dict[str, object] = LLAMA_405B | {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "max_position_embeddings": 256,
}


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"num_hidden_layers": -1}, DamagedCheckpoint),
        ({"num_hidden_layers": 1_000_000}, DamagedCheckpoint),
        ({"num_hidden_layers": None}, DamagedCheckpoint),
        ({"hidden_size": 2**40}, DamagedCheckpoint),
        ({"hidden_size": "wide"}, DamagedCheckpoint),
        ({"vocab_size": 0}, DamagedCheckpoint),
        ({"intermediate_size": 2**62}, DamagedCheckpoint),
        ({"intermediate_size": 2.5}, DamagedCheckpoint),
        ({"hidden_act": "exec"}, DamagedCheckpoint),
        ({"rope_scaling": {"rope_type": "spiral"}}, DamagedCheckpoint),
        ({"model_type": "novelty"}, UnsupportedModel),
        ({"model_type": "chatglm", "architectures": ["ChatGLMModel"]}, UnsupportedModel),
        ({"model_type": None, "architectures": None}, UnsupportedModel),
        ({"attn_implementation": "somebody/kernel"}, UnsafeCheckpoint),
    ],
)
def test_a_broken_config_is_refused_in_a_sentence(
    tmp_path: Path, change: dict[str, object], refusal: type[CheckpointError]
) -> None:
    started = time.monotonic()
    with pytest.raises(refusal) as caught:
        dry_run(described(tmp_path, **(LLAMA | change)))
    assert time.monotonic() - started < 10
    assert caught.value.message
    assert caught.value.hint
    assert "\n" not in caught.value.message


def test_code_of_the_repository_is_not_run(tmp_path: Path) -> None:
    traps = {"AutoConfig": "trap.Config", "AutoModelForCausalLM": "trap.Model"}
    proof = tmp_path / "ran"
    (tmp_path / "trap.py").write_text(f"open({str(proof)!r}, 'w')", encoding="utf-8")
    folder = described(tmp_path, **(LLAMA | {"auto_map": traps}))
    assert dry_run(folder).architecture == "LlamaForCausalLM"
    with pytest.raises(UnsupportedModel):
        dry_run(described(tmp_path, **(LLAMA | {"auto_map": traps, "model_type": "novelty"})))
    assert not proof.exists()


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError):
        dry_run(tmp_path)


def test_what_takes_too_long_is_given_up_between_two_operations() -> None:
    with pytest.raises(UnsupportedModel, match="too large"), NoDevice(-1.0):
        torch.zeros(1)


def test_a_build_that_takes_too_long_is_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dryrun, "BUILD_SECONDS", -1.0)
    with pytest.raises(UnsupportedModel, match="too large"):
        dry_run(described(tmp_path, **LLAMA))


def test_where_no_forward_can_be_followed_the_tensors_are_still_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dryrun, "FORWARD_SECONDS", -1.0)
    folder = described(tmp_path, **LLAMA)
    made = dry_run(folder)
    assert (made.caches, made.peaks, made.step_ops) == ((), (), 0)
    assert made.parameters == 86_848


def test_the_dtype_comes_from_the_weights_where_the_config_names_none(tmp_path: Path) -> None:
    folder = tiny_models.make("llama", tmp_path, dtype=torch.float16)
    config = folder / "config.json"
    text = config.read_text(encoding="utf-8")
    assert '"dtype": "float16"' in text
    config.write_text(text.replace('"dtype": "float16",', ""), encoding="utf-8")
    assert {tensor.itemsize for tensor in dry_run(folder).tensors if not tensor.is_buffer} == {2}


def test_a_question_about_numbers_that_are_not_there_is_answered_with_no() -> None:
    with NoDevice(60.0):
        assert not bool(torch.zeros(3, device="meta").any())
        with pytest.raises(RuntimeError):
            torch.zeros(1, device="meta").item()
