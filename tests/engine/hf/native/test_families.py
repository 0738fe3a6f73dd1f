"""Every family with our kernels: greedy replies are those of transformers' generate."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.hf.decode import Runner
from engine.hf.native.library import Kernels
from engine.hf.native.linears import NativeAttention, NativeLinears, use_attention, use_own_attention
from engine.hf.native.trial import translated
from tests import tiny_models
from tests.engine.hf.native.greedy import generated, model_of, prompt, replied, sample_of

WHOLE_STEPS = {
    "llama", "qwen2", "qwen3", "qwen3_moe", "mixtral", "gemma2", "gemma3_text", "stablelm", "phi3", "glm"
}  # fmt: skip
"""Families whose steps are computed in one call; all others keep transformers' code around our layers."""
MANY_TOKENS = 1100
CPU = torch.device("cpu")


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_a_family_takes_its_way_and_says_what_generate_says(family: str, kernels: Kernels) -> None:
    model = model_of(tiny_models.checkpoint(family))
    runner = Runner(model, CPU)
    runner.decoder = translated(model, kernels, sample_of(runner))
    assert (runner.decoder is not None) == (family in WHOLE_STEPS)
    runner.kv.drop()
    prompt_ids = prompt(40)
    assert runner.decoder is None or replied(runner, prompt_ids) == generated(model, prompt_ids)


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_single_layers_and_attention_say_what_generate_says(family: str, kernels: Kernels) -> None:
    model = model_of(tiny_models.checkpoint(family))
    prompt_ids = prompt(40)
    expected = generated(model, prompt_ids)
    linears = NativeLinears(model, kernels)
    use_attention(model, NativeAttention(kernels))
    assert linears.count >= 4
    assert replied(Runner(model, CPU), prompt_ids) == expected
    linears.undo()
    use_own_attention(model)
    assert not any("forward" in vars(module) for module in model.modules())
    assert model.config._attn_implementation in {"sdpa", "eager"}


@pytest.mark.parametrize("family", ["llama", "gemma2", "gemma3_text"])
def test_far_behind_the_window_and_in_several_stretches_it_is_still_so(
    family: str, kernels: Kernels, tmp_path: Path
) -> None:
    model = model_of(tiny_models.make(family, tmp_path, max_position_embeddings=4096))
    runner = Runner(model, CPU)
    runner.decoder = translated(model, kernels, sample_of(runner))
    runner.kv.foresee(MANY_TOKENS + 100)
    prompt_ids = prompt(MANY_TOKENS)
    assert replied(runner, prompt_ids) == generated(model, prompt_ids)
    lengths = {layer.get_seq_length() for layer in runner.kv.cache.layers}
    assert lengths == {MANY_TOKENS + 63}


@pytest.mark.parametrize(
    "rope", [{"rope_type": "dynamic", "factor": 4.0}, {"rope_type": "yarn", "factor": 4.0}]
)
def test_positions_that_depend_on_the_length_are_the_models_own(
    rope: dict[str, object], kernels: Kernels, tmp_path: Path
) -> None:
    scaled = {"rope_theta": 10000.0, "original_max_position_embeddings": 128, **rope}
    folder = tiny_models.make("llama", tmp_path, rope_parameters=scaled, max_position_embeddings=512)
    model = model_of(folder)
    runner = Runner(model, CPU)
    runner.decoder = translated(model, kernels, sample_of(runner))
    assert runner.decoder is not None
    runner.kv.drop()
    prompt_ids = prompt(480)
    assert replied(runner, prompt_ids) == generated(model, prompt_ids)
