"""A blueprint against the same model loaded for real, on every family."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from engine.blueprints import Blueprint
from engine.checkpoint import inspect_folder, look_at
from engine.commands import DryRun
from engine.hf.backend import HFBackend
from engine.hf.dryrun import dry_run
from engine.hf.dryrun_cache import cache_bytes, growth_bytes, growth_of
from engine.hf.kv import KVCache
from engine.plan import Footprint, footprint_of
from engine.plan.shelf import known_blueprint
from tests import tiny_models
from tests.engine.hf.dryruns import FAMILIES, LLAMA_405B, blueprint, described, loaded, runner
from tests.engine.hf.live_bytes import LiveBytes

Sizes = dict[str, tuple[tuple[int, ...], int]]


def built_sizes(made: Blueprint) -> Sizes:
    return {tensor.name: (tensor.shape, tensor.itemsize) for tensor in made.tensors}


def real_sizes(folder: Path) -> Sizes:
    model = loaded(folder)
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return {name: (tuple(tensor.shape), tensor.itemsize) for name, tensor in tensors}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_is_that_of_the_loaded_model(family: str) -> None:
    made = blueprint(family)
    assert built_sizes(made) == real_sizes(tiny_models.checkpoint(family))
    parameters = loaded(tiny_models.checkpoint(family)).parameters()
    assert made.parameters == sum(parameter.numel() for parameter in parameters)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", ["qwen3_moe", "falcon_h1", "deepseek_v2", "codegen"])
def test_tensors_that_are_kept_wide_are_known(tmp_path: Path, family: str, dtype: torch.dtype) -> None:
    folder = tiny_models.make(family, tmp_path, dtype=dtype)
    assert built_sizes(dry_run(folder)) == real_sizes(folder)


@pytest.mark.parametrize("lengths", [(9, 1, 1), (40, 10, 1)])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_cache_holds_what_its_growth_says(family: str, lengths: tuple[int, ...]) -> None:
    folder = tiny_models.checkpoint(family)
    real = runner(folder)
    real.kv = KVCache(AutoConfig.from_pretrained(folder), in_place=False)
    for tokens in lengths:
        real.feed([5] * tokens)
    growths = {growth.layer: growth for growth in blueprint(family).caches}
    held = {index: cache_bytes(layer) for index, layer in enumerate(real.kv.cache.layers)}
    assert {layer: size for layer, size in held.items() if size} == {
        layer: growth_bytes(growth, sum(lengths)) for layer, growth in growths.items()
    }


def headers(family: str) -> Footprint:
    return footprint_of(inspect_folder(tiny_models.checkpoint(family)))


def built(family: str) -> Footprint:
    return footprint_of(inspect_folder(tiny_models.checkpoint(family)), blueprint=blueprint(family))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_closed_forms_agree_with_the_blueprint(family: str) -> None:
    made = blueprint(family)
    buffers = sum(math.prod(t.shape) * t.itemsize for t in made.tensors if t.is_buffer)
    assert built(family).weight_bytes - buffers == headers(family).weight_bytes
    assert made.parameters == headers(family).parameters
    for tokens in (1, 20, 300):
        assert built(family).kv_bytes(tokens) == headers(family).kv_bytes(tokens), tokens


@pytest.mark.parametrize("family", FAMILIES)
def test_modules_have_the_names_and_bytes_that_headers_tell(family: str) -> None:
    parameters = {
        t.name: math.prod(t.shape) * t.itemsize for t in blueprint(family).tensors if not t.is_buffer
    }
    bare = [tensor for tensor in blueprint(family).tensors if not tensor.is_buffer]
    without_buffers = Blueprint(
        architecture="",
        parameters=0,
        tensors=tuple(bare),
        layer_list=blueprint(family).layer_list,
        tied=blueprint(family).tied,
    )
    verdict = inspect_folder(tiny_models.checkpoint(family))
    modules = footprint_of(verdict, blueprint=without_buffers).modules
    assert sum(parameters.values()) == sum(module.bytes for module in modules)
    told = [(m.name, m.bytes, m.layer, m.tied_to) for m in headers(family).modules]
    made = [(m.name, m.bytes, m.layer, m.tied_to) for m in modules]
    assert sorted(made, key=str) == sorted(told, key=str)


def test_a_huge_model_is_built_without_memory_in_a_moment(tmp_path: Path) -> None:
    with LiveBytes() as live:
        made = dry_run(described(tmp_path, **LLAMA_405B))
    assert made.parameters == 405_853_388_800
    assert live.largest_real < 1 << 20
    assert [growth.bytes_per_token for growth in made.caches] == [2 * 8 * 128 * 2] * 126
    assert made.step_ops > 126 * 30


def test_states_of_recurrent_mixers_are_passed_over_at_each_step(tmp_path: Path) -> None:
    heads, width, state, layers = 16, 16, 128, 3
    sizes: dict[str, Any] = {"mamba_n_heads": heads, "mamba_d_head": width, "mamba_d_ssm": heads * width}
    folder = tiny_models.make("falcon_h1", tmp_path, mamba_d_state=state, num_hidden_layers=layers, **sizes)
    made = dry_run(folder)
    one = 4 * heads * width * state
    assert 6 * layers * one <= made.step_bytes <= 30 * layers * one
    assert made.prompt_bytes > 2 * made.step_bytes
    assert made.step_convolutions == layers
    attention_alone = blueprint("llama")
    assert attention_alone.step_bytes < one


def test_a_table_is_copied_whole_by_each_layer_and_then_looked_up_in_a_row(tmp_path: Path) -> None:
    made = [dry_run(tiny_models.make("gptj", tmp_path / str(n), n_positions=n)) for n in (8192, 16384)]
    added = 8192 * 4 * 4  # rows, of four float32 each
    read_and_written = 2 * len(made[0].caches) * added
    assert read_and_written <= made[1].step_bytes - made[0].step_bytes < 1.4 * read_and_written


def test_the_footprint_of_a_huge_model_is_added_up_in_a_moment(tmp_path: Path) -> None:
    folder = described(tmp_path, **LLAMA_405B)
    made = dry_run(folder)
    footprint = footprint_of(look_at(folder), blueprint=made)
    assert footprint.parameters == made.parameters
    assert footprint.weight_bytes >= 2 * made.parameters
    assert len(footprint.modules) == 126 + 4


def test_tokens_read_a_row_of_the_embedding_and_some_experts() -> None:
    shares = {tensor.name: tensor.active_share for tensor in blueprint("qwen3_moe").tensors}
    vocabulary = blueprint("qwen3_moe").tensors[0].shape[0]
    assert shares["model.embed_tokens.weight"] == 1 / vocabulary
    assert shares["model.layers.0.mlp.experts.down_proj"] == 2 / 4
    assert shares["lm_head.weight"] == shares["model.layers.0.mlp.gate.weight"] == 1
    shared = [share for name, share in shares.items() if "shared_experts" in name]
    assert set(shared) <= {1.0}
    layers = [module for module in built("qwen3_moe").modules if module.layer is not None]
    stored = [module for module in headers("qwen3_moe").modules if module.layer is not None]
    assert [m.active_share for m in layers] == pytest.approx([m.active_share for m in stored], rel=0.01)


def test_a_layer_has_a_cache_of_its_kind() -> None:
    bounds = [growth.longest_tokens for growth in blueprint("gemma2").caches]
    assert bounds == [24, 0, 24, 0]
    kinds = [(g.bytes_per_token > 0, g.constant_bytes > 0) for g in blueprint("qwen3_next").caches]
    assert kinds == [(False, True)] * 3 + [(True, False)]


@pytest.mark.parametrize(
    ("held", "rule"),
    [
        ({2: 20, 3: 30, 50: 500, 100: 1000}, (10, 0, 0)),
        ({2: 25, 3: 35, 50: 505, 100: 1005}, (10, 5, 0)),
        ({2: 7, 3: 7, 50: 7, 100: 7}, (0, 7, 0)),
        ({2: 20, 3: 30, 50: 240, 100: 240}, (10, 0, 24)),
        ({2: 20, 3: 30, 50: 500, 100: 640}, (10, 0, 64)),
    ],
)
def test_the_rule_behind_a_cache_is_found(held: dict[int, int], rule: tuple[int, int, int]) -> None:
    found = growth_of(3, held)
    assert (found.bytes_per_token, found.constant_bytes, found.longest_tokens) == rule
    assert all(growth_bytes(found, length) == size for length, size in held.items())


def test_a_cache_that_grows_in_steps_is_never_counted_under_what_it_holds() -> None:
    held = {2: 0, 3: 0, 50: 12 * 64, 100: 25 * 64}
    found = growth_of(0, held)
    assert all(growth_bytes(found, length) >= size for length, size in held.items())
    assert not found.longest_tokens


def test_the_backend_keeps_its_answer_on_the_shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VRAMBLE_HOME", str(tmp_path))
    folder = tiny_models.checkpoint("llama")
    assert known_blueprint(folder) is None
    done = HFBackend().dry_run(DryRun(folder=folder))
    assert done.folder == folder
    assert known_blueprint(folder) == done.blueprint
