"""Closed forms against what transformers stores: the same names, shapes and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from engine.checkpoint import read_tensors
from engine.checkpoint.config import parse_config
from engine.checkpoint.shapes import FAMILIES, tensors_of
from engine.checkpoint.verdict import Verdict
from engine.errors import DamagedCheckpoint
from tests.engine.checkpoint.making import LLAMA
from tests.engine.published import PUBLISHED
from tests.engine.tiny_configs import TINY, VARIANTS

Shapes = dict[str, tuple[int, ...]]
CASES = {name: (name, TINY[name]) for name in TINY} | {
    name: (family, TINY[family] | changes) for name, (family, changes) in VARIANTS.items()
}


def derived(config: dict[str, Any]) -> Shapes:
    model = parse_config(config, {}, {}, has_template=True)
    return {tensor.name: tensor.shape for tensor in tensors_of(config, model)}


@pytest.fixture(autouse=True)
def _without_bars() -> Any:
    was_on = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    yield
    if was_on:
        transformers_logging.enable_progress_bar()


@pytest.mark.parametrize("case", CASES)
def test_closed_forms_are_what_the_real_class_stores(case: str, tmp_path: Path) -> None:
    family, fields = CASES[case]
    config = CONFIG_MAPPING[family](**fields)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    stored = {tensor.name: tensor.shape for tensor in read_tensors(tmp_path)}
    written = json.loads((tmp_path / "config.json").read_text())
    assert derived(written) == stored
    assert derived(fields | {"model_type": family}) == stored


def test_every_family_that_transformers_has_is_held_against_its_class() -> None:
    native = {family for family in FAMILIES if family in CONFIG_MAPPING}
    assert native - TINY.keys() == {"gpt-sw3"}, "gpt-sw3 is gpt2 under another name"


def test_an_unknown_family_has_no_closed_form() -> None:
    assert derived(LLAMA | {"model_type": "unheard_of"}) == {}


@pytest.mark.parametrize(
    ("name", "quantization", "stored_bytes"),
    [
        ("gpt-oss-20b", {"quant_method": "mxfp4"}, 13_761_264_768),
        ("DeepSeek-V3", {"quant_method": "fp8", "weight_block_size": [128, 128]}, 673_150_611_808),
        ("Llama-3-8B", {"quant_method": "gptq", "bits": 4, "group_size": 128}, 5_732_835_328),
        ("Qwen2.5-7B", {"quant_method": "awq", "bits": 4, "group_size": 128}, 5_570_747_392),
        ("Llama-3-8B", {"quant_method": "something", "bits": 3}, 2 * 8_030_261_248),
    ],
)
def test_quantized_checkpoints_take_what_their_method_stores(
    name: str, quantization: dict[str, Any], stored_bytes: int
) -> None:
    config = PUBLISHED[name] | {"quantization_config": quantization}
    model = parse_config(config, {}, {}, has_template=True)
    verdict = Verdict(folder=Path(), config=model, tensors=tensors_of(config, model), native_class="")
    plain = parse_config(PUBLISHED[name] | {"quantization_config": None}, {}, {}, has_template=True)
    assert verdict.weight_bytes == stored_bytes
    whole = Verdict(folder=Path(), config=plain, tensors=tensors_of(PUBLISHED[name], plain), native_class="")
    if quantization["quant_method"] != "something":
        assert verdict.parameters == whole.parameters


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "mixtral", "num_local_experts": 10**9},
        {"model_type": "mixtral", "num_local_experts": 16000, "num_hidden_layers": 4000},
        {"hidden_size": 2**23, "intermediate_size": 2**24, "num_hidden_layers": 4000},
        {"model_type": "deepseek_v2", "kv_lora_rank": -1},
        {"model_type": "mamba2", "num_heads": "many"},
        {"model_type": "gemma3n_text", "intermediate_size": [32]},
        {"model_type": "gemma3n_text", "intermediate_size": [32, "x"]},
        {"model_type": "granitemoeshared", "shared_intermediate_size": {"a": 1}},
    ],
)
def test_sizes_that_cannot_be_are_refused_with_a_sentence(changes: dict[str, Any]) -> None:
    with pytest.raises(DamagedCheckpoint, match=r"^config\.json (says|describes|does not say|gives)"):
        derived(LLAMA | {"head_dim": 4} | changes)
