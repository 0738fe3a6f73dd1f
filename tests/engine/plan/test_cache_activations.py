"""The closed forms of caches and activations against dry runs of the real classes on no device."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.blueprints import CacheGrowth
from engine.checkpoint import read_config
from engine.hf.dryrun import dry_run
from engine.plan.cache import activation_bytes, layer_growth
from tests.engine.checkpoint.test_config import parsed
from tests.engine.published import PUBLISHED

MOST = 1.6
NAMES = (
    "Llama-2-7B",
    "Llama-3-8B",
    "SmolLM2-135M",
    "Mistral-7B-v0.1",
    "Mixtral-8x7B",
    "Qwen2.5-0.5B",
    "Qwen1.5-MoE-A2.7B",
    "Qwen3-0.6B",
    "Qwen3-30B-A3B",
    "Qwen3-Next-80B-A3B",
    "Gemma-7B",
    "Gemma-2-9B",
    "GPT-2",
    "GPT-J-6B",
    "GPT-Neo-1.3B",
    "CodeGen-350M",
    "Pythia-410M",
    "BLOOM-560M",
    "Falcon-7B",
    "MPT-7B",
    "OPT-125M",
    "StableLM-2-1.6B",
    "Phi-2",
    "Phi-3-mini",
    "Phi-3.5-MoE",
    "GLM-4-9B",
    "GLM-4.5-Air",
    "DeepSeek-V2-Lite",
    "gpt-oss-20b",
    "StarCoder2-3B",
    "Command-R",
    "Command-R7B",
    "OLMoE-1B-7B",
    "Granite-3.1-1B-A400M",
    "Minitron-4B",
    "Falcon-H1-0.5B",
    "LFM2-1.2B",
)
ITEMSIZES = {"bfloat16": 2, "float32": 4}
WIDE = ("Llama-2-7B", "Gemma-2-9B", "GPT-2", "DeepSeek-V2-Lite", "Falcon-H1-0.5B", "LFM2-1.2B")
"""One of each kind of cache; a wider dtype changes the same factor in all of them."""


@pytest.mark.parametrize(
    ("name", "dtype"), [(name, "bfloat16") for name in NAMES] + [(name, "float32") for name in WIDE]
)
def test_closed_forms_are_close_to_a_dry_run_and_never_under_it(
    name: str, dtype: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED[name] | {"torch_dtype": dtype}))
    model, blueprint, itemsize = read_config(tmp_path), dry_run(tmp_path), ITEMSIZES[dtype]
    held = {growth.layer: growth for growth in blueprint.caches}
    for layer in range(model.layers):
        growth = layer_growth(model, layer, itemsize)
        bounded = growth.longest_tokens < model.context_window
        expected = growth if bounded else CacheGrowth(layer=layer, bytes_per_token=growth.bytes_per_token)
        assert held.get(layer, CacheGrowth(layer=layer)) == expected
    assert blueprint.peaks
    for peak in blueprint.peaks:
        on_cpu, on_gpu = (
            activation_bytes(model, peak.context_tokens, itemsize, gpu=gpu) for gpu in (False, True)
        )
        assert peak.bytes <= on_cpu <= MOST * peak.bytes
        assert peak.gpu_bytes <= on_gpu <= MOST * peak.gpu_bytes


def test_more_context_never_takes_less() -> None:
    model = parsed(sliding_window=600, max_position_embeddings=4096)
    sizes = [activation_bytes(model, tokens, 2) for tokens in (1, 64, 512, 600, 601, 1024, 4096)]
    assert sizes == sorted(sizes)


def test_the_last_tokens_logits_are_always_held() -> None:
    model = parsed(vocab_size=10**6)
    assert activation_bytes(model, 1, 2) == 16 * 10**6
