"""config.json, generation_config.json and tokenizer_config.json -> ModelConfig."""

from __future__ import annotations

import os
from pathlib import Path

from engine.checkpoint.adapted import family_of, native_config
from engine.checkpoint.attention import (
    STATEFUL,
    LinearState,
    kv_heads,
    latent_width,
    layer_types,
    linear_state,
)
from engine.checkpoint.choices import check_choices
from engine.checkpoint.fields import Fields
from engine.checkpoint.files import JsonObject, read_json, read_optional_json
from engine.checkpoint.generation import sampling_defaults, token_ids
from engine.errors import DamagedCheckpoint
from engine.values import SamplingParams, Value

DEFAULT_CONTEXT_WINDOW = 2048
"""Tokens, for a checkpoint that names no limit."""
_TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json", "additional_chat_templates")
_SCALED_LIMIT = 2**27
_MOST_LAYERS = 4096
_WIDEST = 2**24
_AGAIN = "Get config.json again from where the model came from."
INNER = (
    "intermediate_size",
    "n_inner",
    "ffn_dim",
    "ffn_hidden_size",
    "d_inner",
    "inner_hidden_size",
    "block_ff_dim",
)
"""Names of the MLP's width."""
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
SHARED_EXPERTS = ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts")
_HEAD_DIM = ("head_dim", "kv_channels")
_SHARED_INNER = ("shared_expert_intermediate_size", "shared_intermediate_size")


class ModelConfig(Value, frozen=True, kw_only=True):
    """What the configuration files say about a model, checked for sanity.

    Attributes:
        architecture: the first of `architectures`; empty where config.json names none.
        model_type: transformers' name of the family.
        layers: length of the main list of layers.
        hidden_size: width of the residual stream.
        heads: query heads.
        kv_heads: key and value heads; fewer with grouped queries.
        head_dim: width of one head.
        intermediate_size: width of the MLPs that one token passes in one layer, experts added up.
        vocab_size: rows of the embedding.
        context_window: tokens the checkpoint was made for.
        dtype: of the weights once loaded ("bfloat16"); empty takes the stored one.
        layer_types: one per layer: "full_attention", "sliding_attention", "linear_attention", ...
        sliding_window: tokens; 0 for none.
        latent_width: elements cached per token and layer by latent attention; 0 without it.
        linear_state: elements of a linear-attention layer's constant state, in float32.
        convolution_state: elements such a layer keeps of the last tokens, in the computed dtype.
        is_tied: lm_head is the embedding; None where config.json does not say.
        quantization: the method the weights are stored with ("gptq"); empty for none.
        quantization_bits: of that method; 0 where it does not say.
        experts: routed experts of one layer; 0 without any.
        active_experts: of those, how many one token passes.
        eos_token_ids: any of them ends a reply.
        sampling: the checkpoint's own defaults.
        has_chat_template: the tokenizer brings one.
    """

    architecture: str
    model_type: str
    layers: int
    hidden_size: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    context_window: int
    dtype: str = ""
    layer_types: tuple[str, ...] = ()
    sliding_window: int = 0
    latent_width: int = 0
    linear_state: int = 0
    convolution_state: int = 0
    is_tied: bool | None = None
    quantization: str = ""
    quantization_bits: int = 0
    experts: int = 0
    active_experts: int = 0
    eos_token_ids: tuple[int, ...] = ()
    sampling: SamplingParams = SamplingParams()
    has_chat_template: bool = False


def read_config(folder: Path) -> ModelConfig:
    """Read a folder's configuration files.

    Raises:
        DamagedCheckpoint: one is missing, malformed, or says what cannot be.
    """
    config = read_json(folder, "config.json")
    tokenizer = read_optional_json(folder, "tokenizer_config.json")
    generation = read_optional_json(folder, "generation_config.json")
    family = family_of(config)
    has_template = has_template_file(folder) or bool(family and family.speech.template)
    return parse_config(native_config(config), generation, tokenizer, has_template)


def parse_config(
    config: JsonObject, generation: JsonObject, tokenizer: JsonObject, has_template: bool
) -> ModelConfig:
    """Make a ModelConfig of parsed files.

    Raises:
        DamagedCheckpoint: a field says what cannot be.
    """
    fields = Fields(config)
    check_choices(fields)
    layers = fields.integer("num_hidden_layers", "n_layer", "num_layers", "n_layers", high=_MOST_LAYERS)
    hidden_size = fields.integer("hidden_size", "n_embd", "n_embed", "d_model", "dim", high=_WIDEST)
    heads = _heads(fields, hidden_size)
    kinds = layer_types(fields, layers)
    state = linear_state(fields) if STATEFUL.intersection(kinds) else LinearState()
    quantization = fields.part("quantization_config", "compression_config")
    return ModelConfig(
        architecture=next(iter(Fields(config).strings("architectures")), ""),
        model_type=_model_type(config),
        layers=layers,
        hidden_size=hidden_size,
        heads=heads,
        kv_heads=kv_heads(fields, heads),
        head_dim=_head_dim(fields, hidden_size, heads),
        intermediate_size=_intermediate_size(fields, hidden_size),
        vocab_size=fields.integer("padded_vocab_size", "vocab_size", high=_WIDEST),
        context_window=_context_window(fields, tokenizer),
        dtype=fields.string("dtype", "torch_dtype").removeprefix("torch."),
        layer_types=kinds,
        sliding_window=_sliding_window(fields),
        latent_width=latent_width(fields),
        linear_state=state.recurrent,
        convolution_state=state.convolution,
        is_tied=fields.flag("tie_word_embeddings"),
        quantization=_quantization_method(quantization),
        quantization_bits=_quantization_bits(quantization),
        experts=fields.integer(*_EXPERTS, low=0, high=_MOST_LAYERS, default=0),
        active_experts=_active_experts(fields),
        eos_token_ids=_eos_token_ids(fields, generation),
        sampling=sampling_defaults(generation),
        has_chat_template=has_template or bool(tokenizer.get("chat_template")),
    )


def has_template_file(folder: Path) -> bool:
    """The folder holds a chat template in a file of its own."""
    return any(os.path.lexists(folder / name) for name in _TEMPLATE_FILES)


def _model_type(config: JsonObject) -> str:
    model_type = config.get("model_type")
    return model_type if isinstance(model_type, str) else ""


def _heads(fields: Fields, hidden_size: int) -> int:
    """Models without attention (Mamba) name no heads; their caches are of constant size."""
    default = 1 if fields.find("state_size", "attention_hidden_size") is not None else None
    return fields.integer(
        "num_attention_heads", "n_head", "n_heads", "num_heads", high=hidden_size, default=default
    )


def _head_dim(fields: Fields, hidden_size: int, heads: int) -> int:
    if fields.find("kv_lora_rank") is not None:
        nope = fields.integer("qk_nope_head_dim", low=0, high=_WIDEST, default=max(1, hidden_size // heads))
        return max(1, nope + fields.integer("qk_rope_head_dim", low=0, high=_WIDEST, default=0))
    is_said = fields.find(*_HEAD_DIM) is not None
    if not is_said and hidden_size % heads:
        message = f"config.json says {heads} heads, which do not divide the width of {hidden_size:,}."
        raise DamagedCheckpoint(message, _AGAIN)
    return fields.integer(*_HEAD_DIM, high=_WIDEST, default=hidden_size // heads)


def _intermediate_size(fields: Fields, hidden_size: int) -> int:
    dense = fields.widest(*INNER, high=_WIDEST, default=4 * hidden_size)
    each = fields.integer("moe_intermediate_size", high=_WIDEST, default=dense)
    shared = fields.integer(*SHARED_EXPERTS, low=0, high=_MOST_LAYERS, default=0)
    beside = fields.integer(*_SHARED_INNER, low=0, high=_WIDEST, default=0)
    return max(dense, each * (_active_experts(fields) + shared) + beside)


def _active_experts(fields: Fields) -> int:
    names = ("num_experts_per_tok", "moe_topk", "moe_k", "num_experts_per_token", "top_k_experts")
    return fields.integer(*names, low=0, high=_MOST_LAYERS, default=0)


def _context_window(fields: Fields, tokenizer: JsonObject) -> int:
    """The limit of the positions; YaRN multiplies the length the model was first trained on."""
    names = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length")
    said = fields.integer(*names, "seq_length", "model_max_length", default=0)
    rope = fields.part("rope_scaling", "rope_parameters")
    factor = rope.positive("factor")
    if factor and not 1 <= factor * max(said, 1) <= _SCALED_LIMIT:
        message = f"config.json stretches its context window by {factor:g}."
        raise DamagedCheckpoint(message, _AGAIN)
    if rope.string("rope_type", "type") == "yarn":
        original = rope.integer("original_max_position_embeddings", default=0)
        said = max(said, int(original * factor))
    return said or _tokenizer_limit(tokenizer)


def _tokenizer_limit(tokenizer: JsonObject) -> int:
    limit = tokenizer.get("model_max_length")
    is_limit = isinstance(limit, int) and 0 < limit < _SCALED_LIMIT
    return int(limit) if is_limit and isinstance(limit, int) else DEFAULT_CONTEXT_WINDOW


def _sliding_window(fields: Fields) -> int:
    if fields.flag("use_sliding_window") is False:
        return 0
    return fields.integer("sliding_window", "attention_chunk_size", low=0, default=0)


def _quantization_method(quantization: Fields) -> str:
    method = quantization.string("quant_method", "quantization_method")
    if method:
        return method.lower()
    if quantization.flag("load_in_4bit") or quantization.flag("load_in_8bit"):
        return "bitsandbytes"
    return "unknown" if quantization.outer else ""


def _quantization_bits(quantization: Fields) -> int:
    """Of one packed element: said outright, or by the first group of layers that share a scheme."""
    groups = quantization.find("config_groups")
    schemes = (
        [group for group in groups.values() if isinstance(group, dict)] if isinstance(groups, dict) else []
    )
    scheme = Fields(schemes[0] if schemes else {}).part("weights")
    nested = scheme.integer("num_bits", high=32, default=0)
    return quantization.integer("bits", "w_bit", high=32, default=nested)


def _eos_token_ids(fields: Fields, generation: JsonObject) -> tuple[int, ...]:
    both = (*token_ids(generation.get("eos_token_id")), *token_ids(fields.find("eos_token_id")))
    return tuple(dict.fromkeys(both))
