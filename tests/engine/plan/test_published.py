"""Well-known checkpoints from config.json alone: parameters as published, modules as the class has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from engine.checkpoint import Verdict, look_at
from engine.plan import footprint_of
from engine.plan.cache import layer_growth
from tests.engine.published import PARAMETERS, PUBLISHED, REMOTE, Config

KIB = 1024
KV_BYTES = {
    "Llama-2-7B": 512 * KIB,
    "Llama-2-13B": 800 * KIB,
    "Llama-2-70B": 320 * KIB,
    "Llama-3-8B": 128 * KIB,
    "Llama-3-70B": 320 * KIB,
    "Llama-3.1-405B": 504 * KIB,
    "Mistral-7B-v0.3": 128 * KIB,
    "Mixtral-8x7B": 128 * KIB,
    "Qwen2.5-7B": 56 * KIB,
    "Qwen2.5-0.5B": 12 * KIB,
    "Qwen3-8B": 144 * KIB,
    "Qwen3-0.6B": 112 * KIB,
    "Qwen3-30B-A3B": 96 * KIB,
    "Gemma-2-9B": 336 * KIB,
    "GPT-2": 36 * KIB * 2,
    "GPT-J-6B": 448 * KIB * 2,
    "CodeGen-16B": 816 * KIB,
    "BLOOM-7B1": 480 * KIB,
    "BLOOM-176B": 3920 * KIB,
    "StableLM-2-1.6B": 192 * KIB,
    "Phi-3-mini": 384 * KIB,
    "GLM-4-9B": 40 * KIB,
    "DeepSeek-V2-Lite": 27 * (512 + 64) * 2,
    "DeepSeek-V2": 60 * (512 + 64) * 2,
    "DeepSeek-V3": 61 * (512 + 64) * 2,
    "gpt-oss-20b": 48 * KIB,
    "gpt-oss-120b": 72 * KIB,
    "Pythia-12B": 720 * KIB,
    "Falcon-7B": 8 * KIB,
    "MOSS-16B": 816 * KIB,
    "ChatGLM-6B": 448 * KIB,
    "ChatGLM3-6B": 28 * KIB,
    "Qwen3-Next-80B-A3B": 24 * KIB,
    "Falcon-Mamba-7B": 0,
}
"""Per token while every window still grows, in the dtype the checkpoint is loaded in."""


def looked_at(folder: Path, config: Config) -> Verdict:
    (folder / "config.json").write_text(json.dumps(config))
    return look_at(folder)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_the_published_ones(name: str, tmp_path: Path) -> None:
    verdict = looked_at(tmp_path, (PUBLISHED | REMOTE)[name])
    assert verdict.parameters == PARAMETERS[name]
    assert not verdict.is_on_disk


def real_model(config: Config) -> torch.nn.Module:
    left_out = {"model_type", "quantization_config"}
    fields: dict[str, Any] = {name: value for name, value in config.items() if name not in left_out}
    with torch.device("meta"):
        model: torch.nn.Module = AutoModelForCausalLM.from_config(
            CONFIG_MAPPING[config["model_type"]](**fields)
        )
    return model


def elements(model: torch.nn.Module, path: str) -> int:
    """Elements of one module, or of one parameter, as a checkpoint would hold them."""
    parent, _, last = path.rpartition(".")
    found = getattr(model.get_submodule(parent), last)
    tensors = [found] if isinstance(found, torch.Tensor) else found.state_dict().values()
    return sum(tensor.numel() for tensor in tensors)


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_modules_are_those_of_the_real_class(name: str, tmp_path: Path) -> None:
    verdict = looked_at(tmp_path, PUBLISHED[name])
    model = real_model(PUBLISHED[name])
    assert verdict.parameters == sum(parameter.numel() for parameter in model.parameters())
    footprint = footprint_of(verdict)
    ours = {module.name: module.plain_bytes for module in footprint.modules if not module.tied_to}
    assert ours == {path: footprint.itemsize * elements(model, path) for path in ours}


@pytest.mark.parametrize("name", KV_BYTES)
def test_the_cache_takes_the_known_bytes_per_token(name: str, tmp_path: Path) -> None:
    verdict = looked_at(tmp_path, (PUBLISHED | REMOTE)[name])
    itemsize = footprint_of(verdict).itemsize
    growths = [layer_growth(verdict.config, layer, itemsize) for layer in range(verdict.config.layers)]
    assert sum(growth.bytes_per_token for growth in growths) == KV_BYTES[name]
