"""Attention beside linear attention in one layer: its keys and values grow in place, and no logit changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.cache_utils import (
    Cache,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
)
from transformers.utils import logging as transformers_logging

from engine.hf.decode import Interrupted, Runner
from engine.hf.growing import SPARE_TOKENS, GrowingLayer
from engine.hf.growing_cache import grow_in_place
from engine.hf.growing_hybrid import GrowingHybridLayer
from engine.hf.kv import KEPT_STATES, KVCache
from engine.plan.need import cached_bytes
from tests import tiny_models
from tests.engine.hf.dryruns import blueprint

CPU = torch.device("cpu")
STEPS = 40
WINDOW = 24
CHANGES: dict[str, dict[str, Any]] = {
    "falcon_h1": {},
    "zaya": {
        "num_experts": 4,
        "moe_intermediate_size": 16,
        "router_hidden_size": 16,
        "layer_types": ["hybrid", "hybrid_sliding"] * 2,
        "sliding_window": WINDOW,
    },
}
families = pytest.mark.parametrize("family", CHANGES)


def runner_of(folder: Path, *, in_place: bool = True) -> Runner:
    transformers_logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()
    runner = Runner(model, CPU)
    runner.kv = KVCache(model.config, in_place=in_place)
    return runner


def prompt(tokens: int, seed: int = 1) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return [int(token) for token in torch.randint(3, 300, (tokens,), generator=generator)]


def feed(runner: Runner, token_ids: Sequence[int], steps: int = STEPS) -> list[torch.Tensor]:
    """The logits of a prompt's end and of the greedy steps behind it."""
    logits = [runner.feed(token_ids)]
    while len(logits) <= steps:
        logits.append(runner.feed([int(logits[-1].argmax())]))
    return logits


def talk(runner: Runner) -> list[torch.Tensor]:
    """The logits of a prompt, of one that shares its beginning, and of an edited one behind a kept state."""
    first = prompt(30)
    runner.feed(first[:20])
    runner.kv.keep_state()
    logits = feed(runner, first[20:])
    again = [*first[:25], *prompt(150, 2)]
    assert runner.kv.reuse(again) == 20
    logits += feed(runner, again[20:])
    edited = [*first[:20], *prompt(9, 3)]
    assert runner.kv.reuse(edited) == 20
    return logits + feed(runner, edited[20:])


def homes(runner: Runner) -> list[int]:
    layers: list[Any] = runner.kv.cache.layers
    return [states.untyped_storage().data_ptr() for layer in layers for states in (layer.keys, layer.values)]


@families
def test_every_logit_is_that_of_layers_that_copy_themselves(family: str, tmp_path: Path) -> None:
    folder = tiny_models.make(family, tmp_path, **CHANGES[family])
    growing, copied = runner_of(folder), runner_of(folder, in_place=False)
    assert all(map(torch.equal, talk(growing), talk(copied)))
    assert all(isinstance(layer, GrowingLayer) for layer in growing.kv.cache.layers)


@pytest.mark.parametrize(
    "fresh",
    [LinearAttentionAndFullAttentionLayer(3), LinearAttentionAndSlidingWindowAttentionLayer(WINDOW, 3)],
    ids=["whole", "window"],
)
def test_a_layer_has_as_many_states_as_the_one_that_it_replaces(fresh: Any) -> None:
    cache = Cache(layers=[fresh])
    grow_in_place(cache)
    held = {**vars(fresh)}
    del held["keys"], held["values"]
    assert isinstance(cache.layers[0], GrowingLayer)
    assert held.items() <= vars(cache.layers[0]).items()
    for state in range(3):
        kept = cache.update_conv_state(torch.full((1, 4, 2), state), 0, state)
        assert int(kept.max()) == state
    assert cache.layers[0].get_seq_length() == 0


def test_states_that_are_not_recorded_cannot_be_cropped() -> None:
    with pytest.raises(RuntimeError, match="crop"):
        GrowingHybridLayer().crop(-1)


def test_a_layer_that_was_reset_has_neither_tokens_nor_states() -> None:
    layer: Any = GrowingHybridLayer()
    layer.update(torch.ones(1, 2, 3, 4), torch.ones(1, 2, 3, 4))
    layer.update_conv_state(torch.ones(1, 4, 2))
    layer.reset()
    assert layer.keys is None
    assert not any(layer.has_previous_state.values())
    assert int(layer.conv_states[0].sum()) == layer.get_seq_length() == 0


@families
def test_no_step_moves_the_keys_and_values_while_there_is_room(family: str, tmp_path: Path) -> None:
    runner = runner_of(tiny_models.make(family, tmp_path, **CHANGES[family]))
    feed(runner, prompt(30), 1)
    before = homes(runner)
    for token in prompt(SPARE_TOKENS - 40):
        runner.feed([token])
        assert homes(runner) == before
    assert len(set(before)) == 2 * len(runner.kv.cache.layers)


def interrupt(*_: object) -> None:
    raise Interrupted


@families
def test_a_forward_that_was_left_between_two_layers_is_undone(family: str, tmp_path: Path) -> None:
    runner: Any = runner_of(tiny_models.make(family, tmp_path, **CHANGES[family]))
    expected = feed(runner, prompt(30))
    runner.kv.drop()
    runner.feed(prompt(30)[:20])
    runner.kv.keep_state()
    hook = runner._model.model.layers[2].register_forward_pre_hook(interrupt)
    with pytest.raises(Interrupted):
        runner.feed(prompt(30)[20:])
    hook.remove()
    runner.kv.mend()
    assert len(runner.kv.token_ids) == 20
    found = feed(runner, prompt(30)[20:])
    assert all(torch.allclose(mine, right, atol=1e-4) for mine, right in zip(found, expected, strict=True))


def test_a_full_window_with_its_kept_states_takes_what_the_plan_says() -> None:
    runner, window = runner_of(tiny_models.checkpoint("falcon_h1")), tiny_models.CONTEXT_WINDOW
    runner.kv.foresee(window)
    for tokens in (100, 200, window - 301, 1):
        runner.feed(prompt(tokens))
        runner.kv.keep_state()
    assert len(runner.kv._kept) == KEPT_STATES
    planned = sum(cached_bytes(growth, window) for growth in blueprint("falcon_h1").caches)
    assert sum(runner.kv.bytes_by_device().values()) == planned
