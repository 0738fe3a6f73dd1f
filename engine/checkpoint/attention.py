"""What each layer remembers: kinds of attention, widths of caches, constant states."""

from __future__ import annotations

from typing import NamedTuple

from engine.checkpoint.fields import Fields
from engine.errors import DamagedCheckpoint

EAGER_FAMILIES = (
    "bloom",
    "codegen",
    "falcon_mamba",
    "gemma2",
    "gpt_neo",
    "gpt_neox_japanese",
    "gpt_oss",
    "gptj",
    "mpt",
    "openai-gpt",
    "vaultgemma",
    "xglm",
)
"""transformers has no fused attention for them."""
FULL = "full_attention"
SLIDING = "sliding_attention"
LINEAR = "linear_attention"
CONVOLUTION = "conv"
HYBRID = "hybrid"
STATEFUL = frozenset((LINEAR, CONVOLUTION, HYBRID, "hybrid_sliding"))
"""Kinds of layers that keep a state of constant size."""
SHARED = "shared"
"""Reads another layer's keys and values."""
_NAMED = {"mamba": LINEAR, "recurrent": LINEAR, "attention": FULL, "chunked_attention": SLIDING}
_UNGROUPED = ("gpt_neox", "persimmon")
"""Families that leave `num_key_value_heads` unread."""
_STATE_SPACE = ("mamba", "mamba2", "falcon_mamba", "rwkv", "xlstm")
_BESIDE_ATTENTION = ("falcon_h1",)
_ALTERNATING = {"gemma2": 2}
_FULL_LETTER = "G"
_MOST = 2**24
_HINT = "Get config.json again from where the model came from."


class LinearState(NamedTuple):
    """Elements that one linear-attention layer keeps, whatever the length.

    Attributes:
        recurrent: of the recurrence, in float32.
        convolution: of the last tokens before the convolution, in the computed dtype.
    """

    recurrent: int = 0
    convolution: int = 0


def layer_types(fields: Fields, layers: int) -> tuple[str, ...]:
    """The kind of every layer, said by the config or derived from its family's fields.

    Raises:
        DamagedCheckpoint: the list is of another length.
    """
    said = fields.strings("layer_types") or fields.strings("layers_block_type")
    if said and len(said) < layers:
        message = f"config.json names {len(said)} layer types for {layers} layers."
        raise DamagedCheckpoint(message, _HINT)
    if said:
        kinds = [_NAMED.get(kind, kind) for kind in said[:layers]]
    else:
        kinds = [_derived_type(fields, index) for index in range(layers)]
    own = max(0, layers - fields.integer("num_kv_shared_layers", low=0, high=_MOST, default=0))
    return (*kinds[:own], *(SHARED for _ in kinds[own:]))


def _derived_type(fields: Fields, index: int) -> str:
    if fields.family in _STATE_SPACE:
        return LINEAR
    if fields.family in _BESIDE_ATTENTION:
        return HYBRID
    if fields.find("full_attention_interval", "attn_layer_period", "attn_layer_indices") is not None:
        return FULL if _is_attention_layer(fields, index) else LINEAR
    listed = fields.numbers("full_attn_idxs")
    if listed is not None:
        return FULL if index in listed else CONVOLUTION
    return SLIDING if fields.find("sliding_window") and _is_sliding(fields, index) else FULL


def _is_attention_layer(fields: Fields, index: int) -> bool:
    indices = fields.numbers("attn_layer_indices")
    if indices is not None:
        return index in indices
    if fields.find("full_attention_interval") is not None:
        return (index + 1) % fields.integer("full_attention_interval") == 0
    period = fields.integer("attn_layer_period")
    return index % period == fields.integer("attn_layer_offset", low=0, default=0)


def _is_sliding(fields: Fields, index: int) -> bool:
    """Every n-th layer sees everything, or the first ones do, or none does."""
    names = ("sliding_window_pattern", "_sliding_window_pattern")
    letters = fields.find(*names)
    if isinstance(letters, str) and letters:
        return letters[index % len(letters)] != _FULL_LETTER
    pattern = fields.integer(*names, high=_MOST, default=_ALTERNATING.get(fields.family, 0))
    if pattern:
        return (index + 1) % pattern != 0
    is_used = fields.flag("use_sliding_window") is not False
    return is_used and index >= fields.integer("max_window_layers", low=0, default=0)


def kv_heads(fields: Fields, heads: int) -> int:
    """Key and value heads that are cached: fewer than query heads with grouped queries, one with shared ones.

    Falcon's second generation groups its queries, and transformers caches the keys of every query head.

    Raises:
        DamagedCheckpoint: config.json says what cannot be, or a number that does not divide the heads.
    """
    if fields.flag("new_decoder_architecture") or fields.family in _UNGROUPED:
        return heads
    names = ("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num")
    is_shared = fields.flag("multi_query") and fields.flag("new_decoder_architecture") is False
    default = 1 if fields.flag("multi_query") else heads
    said = 1 if is_shared else fields.integer(*names, high=max(heads, 1), default=default)
    if heads % said:
        message = f"config.json says {heads} heads for {said} key and value heads, which do not divide them."
        raise DamagedCheckpoint(message, _HINT)
    return said


def latent_width(fields: Fields) -> int:
    """Elements that latent attention caches per token: the compressed vector and the rotary key.

    An index of keys, by which some families choose what to attend to, comes on top.
    """
    rank = fields.integer("kv_lora_rank", high=_MOST, default=0)
    if not rank:
        return 0
    index = fields.integer("index_head_dim", high=_MOST, default=0)
    return rank + index + fields.integer("qk_rope_head_dim", low=0, high=_MOST, default=0)


def linear_state(fields: Fields) -> LinearState:
    """What one layer with a state of constant size keeps.

    Raises:
        DamagedCheckpoint: config.json says no size for it.
    """
    if fields.find("linear_num_value_heads") is not None:
        return _delta_net_state(fields)
    if fields.find("mamba_d_state", "ssm_state_size", "state_size", "mamba_state_dim") is not None:
        return _state_space_state(fields)
    hidden = fields.integer("hidden_size", "n_embd", "n_embed", "d_model", "dim", high=_MOST)
    if fields.find("conv_L_cache") is not None:
        return LinearState(convolution=hidden * fields.integer("conv_L_cache", high=_MOST))
    return LinearState(recurrent=hidden * fields.integer("head_dim", high=_MOST, default=128))


def _delta_net_state(fields: Fields) -> LinearState:
    key_heads = fields.integer("linear_num_key_heads", high=_MOST)
    value_heads = fields.integer("linear_num_value_heads", high=_MOST)
    key_dim = fields.integer("linear_key_head_dim", high=_MOST)
    value_dim = fields.integer("linear_value_head_dim", high=_MOST)
    kernel = fields.integer("linear_conv_kernel_dim", high=_MOST, default=4)
    channels = 2 * key_heads * key_dim + value_heads * value_dim
    return LinearState(value_heads * key_dim * value_dim, channels * kernel)


def _state_space_state(fields: Fields) -> LinearState:
    """Mamba's; its second generation sends the groups' states through the convolution, too."""
    hidden = fields.integer("hidden_size", "d_model", high=_MOST)
    expand = fields.positive("mamba_expand", "expand") or 2.0
    names = ("mamba_d_ssm", "intermediate_size") if fields.family in _STATE_SPACE else ("mamba_d_ssm",)
    inner = fields.integer(*names, high=_MOST, default=int(expand * hidden))
    state = fields.integer("mamba_d_state", "ssm_state_size", "state_size", "mamba_state_dim", high=_MOST)
    kernel = fields.integer("mamba_d_conv", "conv_kernel", high=_MOST, default=4)
    groups = fields.integer("mamba_n_groups", "n_groups", low=0, high=_MOST, default=0)
    return LinearState(inner * state, (inner + 2 * groups * state) * kernel)
