"""Tiny random checkpoints of many families, each at most 1 MB, with a real tokenizer and a chat template.

folder = tiny_models.checkpoint("llama")          # made once per test run, shared by xdist workers
folder = tiny_models.make("qwen3", tmp_path)      # one of your own, to damage
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

CONTEXT_WINDOW = 512
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
REASONING_TOKENS = ("<think>", "</think>")

_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT_WINDOW,
    "initializer_range": 0.3,
    "head_dim": 8,
}
_GPT_SIZES: dict[str, Any] = {
    "n_embd": 32,
    "n_layer": 4,
    "n_head": 4,
    "n_positions": CONTEXT_WINDOW,
    "initializer_range": 0.3,
}
_EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_WINDOWED: dict[str, Any] = {
    "sliding_window": 24,
    "query_pre_attn_scalar": 8,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
}

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": _SIZES,
    "qwen2": _SIZES,
    "qwen3": _SIZES | {"tie_word_embeddings": True},
    "qwen3_moe": _SIZES | _EXPERTS | {"decoder_sparse_step": 1},
    "mixtral": _SIZES | {"num_local_experts": 4, "num_experts_per_tok": 2},
    "gemma2": _SIZES | _WINDOWED,
    "gemma3_text": _SIZES | _WINDOWED,
    "gpt2": _GPT_SIZES,
    "gptj": _GPT_SIZES | {"rotary_dim": 4},
    "codegen": _GPT_SIZES | {"rotary_dim": 4},
    "gpt_neox": _SIZES,
    "bloom": {
        "hidden_size": 32,
        "n_layer": 4,
        "n_head": 4,
        "initializer_range": 0.3,
        "seq_length": CONTEXT_WINDOW,
    },
    "stablelm": _SIZES,
    "phi3": _SIZES,
    "glm": _SIZES,
    "deepseek_v2": _SIZES
    | {
        "num_key_value_heads": 4,
        "kv_lora_rank": 8,
        "q_lora_rank": 16,
        "qk_rope_head_dim": 4,
        "qk_nope_head_dim": 8,
        "v_head_dim": 8,
        "head_dim": 4,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "n_shared_experts": 1,
        "first_k_dense_replace": 1,
    },
    "qwen3_next": _SIZES
    | _EXPERTS
    | {
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "shared_expert_intermediate_size": 16,
    },
    "falcon_h1": _SIZES | {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8},
}

_SEEDS = {"gemma2": 7, "gemma3_text": 2}
"""Where the first seed's model says nothing but line ends."""

_TEXT = (
    "The quick brown fox jumps over the lazy dog while the cache of keys and values grows. "
    "Why is prefill faster than decode? Because every prompt token is computed in one pass. "
    "你好，世界。内存不够的时候，把一些层放到磁盘上。 Привет, мир! ¿Qué tal? 🙂🚀 "
    "def answer(question: str) -> str:\n    return question.upper()\n"
)


def make_tokenizer(*, reasoning: bool = False) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer of about 380 tokens on a few sentences.

    Args:
        reasoning: give it tokens of its own for <think> and </think>.
    """
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=380,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(SPECIAL_TOKENS),
        show_progress=False,
    )
    core.train_from_iterator([_TEXT] * 4, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=CHAT_TEMPLATE
    )
    if reasoning:
        tokenizer.add_tokens(list(REASONING_TOKENS))
    return tokenizer


def make(
    family: str,
    parent: Path,
    *,
    dtype: torch.dtype = torch.float32,
    seed: int | None = None,
    reasoning: bool = False,
    **changes: Any,
) -> Path:
    """Make a checkpoint of a family in `parent/family` and return the folder.

    Args:
        family: a key of FAMILIES, or another one that takes the usual sizes.
        parent: an existing folder.
        dtype: of the weights as stored.
        seed: of the random weights; None takes one whose replies can be seen.
        reasoning: the tokenizer has tokens for the reasoning tags.
        changes: configuration fields that differ from FAMILIES.
    """
    tokenizer = make_tokenizer(reasoning=reasoning)
    fields = {**FAMILIES.get(family, _SIZES), "vocab_size": len(tokenizer), **_ends(tokenizer), **changes}
    config = CONFIG_MAPPING[family](**fields)
    torch.manual_seed(_SEEDS.get(family, 0) if seed is None else seed)
    model = AutoModelForCausalLM.from_config(config).to(dtype)
    folder = parent / family
    before = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    model.save_pretrained(folder)
    if before:
        transformers_logging.enable_progress_bar()
    tokenizer.save_pretrained(folder)
    return folder


def _ends(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    return {
        "bos_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def checkpoint(family: str) -> Path:
    """Return a read-only checkpoint of a family, made at its first use and shared by all test processes."""
    cache = _cache_folder()
    with (cache / f"{family}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = cache / family
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=cache) as unfinished:
                shutil.move(make(family, Path(unfinished)), folder)
    return folder


def _cache_folder() -> Path:
    """A private folder per user and version of this file."""
    version = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"vramble-tiny-models-{os.getuid()}-{version}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
