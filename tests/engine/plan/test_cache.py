"""The closed forms of the KV cache against transformers' own Cache objects after a real forward."""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, DynamicCache

from engine.checkpoint.config import parse_config
from engine.plan.cache import layer_growth, layer_kv_bytes
from tests.engine.checkpoint.test_config import parsed
from tests.engine.tiny_configs import TINY, VARIANTS

PROMPT, STEPS = 30, 2
WINDOW = PROMPT + STEPS
CASES = {name: (name, TINY[name]) for name in TINY} | {
    name: (family, TINY[family] | changes) for name, (family, changes) in VARIANTS.items()
}


def tensors(value: object) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors(item)


def held_bytes(layer: Any) -> int:
    """Bytes of every storage that a layer of the cache keeps alive."""
    found = (tensor for name, value in vars(layer).items() if name[0] != "_" for tensor in tensors(value))
    storages = [tensor.untyped_storage() for tensor in found]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def real_cache(config: Any) -> DynamicCache:
    """The engine's own kind of cache after prefill and two steps in bf16."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).to(torch.bfloat16).eval()
    cache = DynamicCache(config=config)
    accepted = inspect.signature(model.forward).parameters
    name = "past_key_values" if "past_key_values" in accepted else "cache_params"
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for length in (PROMPT, *[1] * STEPS):
            model(input_ids=torch.ones((1, length), dtype=torch.long), use_cache=True, **{name: cache})
    return cache


@pytest.mark.parametrize("case", CASES)
def test_each_layer_takes_what_the_real_cache_holds(case: str) -> None:
    family, fields = CASES[case]
    config = CONFIG_MAPPING[family](**fields)
    model = parse_config(json.loads(config.to_json_string(use_diff=False)), {}, {}, has_template=True)
    ours = [layer_kv_bytes(model, layer, WINDOW, 2) for layer in range(model.layers)]
    assert ours == [held_bytes(layer) for layer in real_cache(config).layers]


def test_a_window_that_is_not_full_yet_takes_what_is_in_it() -> None:
    model = parsed(sliding_window=10)
    assert [layer_kv_bytes(model, 0, tokens, 2) for tokens in (5, 10, 11)] == [160, 320, 320]


def test_layers_of_both_kinds_keep_a_state_beside_their_tokens() -> None:
    model = parsed(layer_types=["hybrid", "moe"], mamba_d_state=4, mamba_expand=2, mamba_d_conv=4)
    hybrid, stateless = layer_growth(model, 0, 2), layer_growth(model, 1, 2)
    assert hybrid.constant_bytes == 32 * 4 * 4 + 32 * 4 * 2
    assert hybrid.bytes_per_token == 2 * 2 * 4 * 2
    assert layer_kv_bytes(model, 1, 1000, 2) == stateless.bytes_per_token == stateless.constant_bytes == 0
