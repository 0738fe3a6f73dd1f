"""Blueprints of tiny models, made once, and the same models loaded for real."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from engine.blueprints import Blueprint
from engine.hf.decode import Runner
from engine.hf.dryrun import dry_run
from engine.hf.load import attention_of
from tests import tiny_models

FAMILIES = tuple(tiny_models.FAMILIES)
CPU = torch.device("cpu")
_LENGTHS = ("max_position_embeddings", "n_positions", "seq_length")


@functools.cache
def blueprint(family: str) -> Blueprint:
    return dry_run(tiny_models.checkpoint(family))


def loaded(folder: Path) -> Any:
    """The model as the engine loads it, without a plan."""
    config = AutoConfig.from_pretrained(folder)
    attention = attention_of(config)
    model = AutoModelForCausalLM.from_pretrained(
        folder, config=config, dtype="auto", attn_implementation=attention
    )
    return model.eval()


def runner(folder: Path) -> Runner:
    return Runner(loaded(folder), CPU)


def longer(family: str, parent: Path, tokens: int) -> Path:
    """A tiny checkpoint made for a longer context window, in bfloat16."""
    windows: dict[str, Any] = {name: tokens for name in _LENGTHS if name in tiny_models.FAMILIES[family]}
    return tiny_models.make(family, parent, dtype=torch.bfloat16, **windows)


def described(parent: Path, **config: object) -> Path:
    """A folder that holds a config.json and nothing else."""
    parent.mkdir(parents=True, exist_ok=True)
    (parent / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return parent


LLAMA_405B: dict[str, object] = {
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
    "tie_word_embeddings": False,
}
