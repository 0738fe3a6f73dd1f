"""Checkpoints of real shapes with random weights, written quickly and never held in float32."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.initialization import no_init_weights
from transformers.utils import logging as transformers_logging

from tests.tiny_models import make_tokenizer

VOCABULARY = 32_000
LONGEST_CONTEXT = 8192
_SPREAD = 0.02
_POOL = 1 << 20
_LLAMA: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
}
_GPT: dict[str, Any] = {"n_embd": 1024, "n_head": 16, "n_positions": LONGEST_CONTEXT}
_EXPERTS: dict[str, Any] = {"num_experts_per_tok": 2, "num_key_value_heads": 4, "hidden_size": 1024}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": _LLAMA,
    "llama_large": _LLAMA | {"hidden_size": 2048, "intermediate_size": 8192, "num_attention_heads": 32},
    "qwen3": _LLAMA | {"head_dim": 128, "tie_word_embeddings": True},
    "gemma2": _LLAMA | {"head_dim": 64, "query_pre_attn_scalar": 64, "sliding_window": 1024},
    "gpt2": _GPT,
    "gptj": _GPT | {"rotary_dim": 64},
    "bloom": {"hidden_size": 1024, "n_head": 16, "seq_length": LONGEST_CONTEXT},
    "gpt_neox": _LLAMA,
    "phi3": _LLAMA,
    "stablelm": _LLAMA,
    "mixtral": _EXPERTS | {"intermediate_size": 1792, "num_attention_heads": 16, "num_local_experts": 8},
    "qwen3_moe": _EXPERTS
    | {"moe_intermediate_size": 512, "num_experts": 32, "num_attention_heads": 16, "head_dim": 64},
    "falcon_h1": _LLAMA
    | {"head_dim": 64, "mamba_d_ssm": 1024, "mamba_n_heads": 32, "mamba_d_head": 32, "mamba_d_state": 128},
}
"""What differs from a family's configuration class; the number of layers is the caller's."""
_COUNT_NAMES = {"gpt2": "n_layer", "gptj": "n_layer", "bloom": "n_layer"}
_MODEL_TYPES = {"llama_large": "llama"}


def make(family: str, layers: int, dtype: torch.dtype, folder: Path, **changes: object) -> Path:
    """Write a checkpoint.

    Args:
        family: a key of FAMILIES.
        layers: of the main list.
        dtype: as stored and computed.
        folder: where it goes; made.
        changes: configuration fields that differ from FAMILIES.
    """
    tokenizer = wide_tokenizer(VOCABULARY)
    model_type = _MODEL_TYPES.get(family, family)
    fields = {
        "vocab_size": VOCABULARY,
        "max_position_embeddings": LONGEST_CONTEXT,
        _COUNT_NAMES.get(family, "num_hidden_layers"): layers,
        "bos_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **FAMILIES[family],
        **changes,
    }
    config = CONFIG_MAPPING[model_type](**fields)
    with no_init_weights():
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.tie_weights()
    fill(model)
    transformers_logging.disable_progress_bar()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@torch.no_grad()
def fill(model: torch.nn.Module) -> None:
    """Give matrices random numbers, drawn once and repeated, and every vector ones or zeros."""
    pool = torch.randn(_POOL, generator=torch.Generator().manual_seed(1)) * _SPREAD
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            _repeat(pool.to(parameter.dtype), parameter)
        else:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)


def _repeat(pool: torch.Tensor, parameter: torch.Tensor) -> None:
    flat = parameter.view(-1)
    for start in range(0, flat.numel(), pool.numel()):
        part = flat[start : start + pool.numel()]
        part.copy_(pool[: part.numel()])


def wide_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """The tests' tokenizer, filled up with words, so that every id has a text."""
    tokenizer = make_tokenizer()
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    backend["model"]["vocab"] |= {f"w{index}": index for index in range(len(tokenizer), vocabulary)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(backend)),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=tokenizer.chat_template,
    )
