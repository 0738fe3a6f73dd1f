"""What each layer remembers: kinds of attention, widths of latent caches, constant states."""

from __future__ import annotations

from engine.checkpoint.fields import Fields
from engine.errors import DamagedCheckpoint

FULL = "full_attention"
SLIDING = "sliding_attention"
LINEAR = "linear_attention"
_LEGACY = {"mamba": LINEAR, "recurrent": LINEAR, "attention": FULL, "chunked_attention": SLIDING}
_SLIDING_PATTERNS = {"gemma2": 2, "cohere2": 4, "gemma3": 6, "gemma3_text": 6}
"""Every n-th layer sees everything, where the family's config leaves the pattern out."""
_STATE_SPACE = ("mamba", "mamba2", "falcon_mamba", "rwkv", "xlstm")
_MOST = 2**24


def layer_types(fields: Fields, layers: int) -> tuple[str, ...]:
    """The kind of every layer, said by the config or derived from its family's fields.

    Raises:
        DamagedCheckpoint: the list is of another length.
    """
    said = fields.strings("layer_types") or fields.strings("layers_block_type")
    if not said:
        return tuple(_derived_type(fields, index) for index in range(layers))
    if len(said) < layers:
        message = f"config.json names {len(said)} layer types for {layers} layers."
        raise DamagedCheckpoint(message, "Get config.json again from where the model came from.")
    return tuple(_LEGACY.get(kind, kind) for kind in said[:layers])


def _derived_type(fields: Fields, index: int) -> str:
    model_type = fields.string("model_type")
    if model_type in _STATE_SPACE:
        return LINEAR
    if fields.find("full_attention_interval", "attn_layer_period", "attn_layer_indices") is not None:
        return FULL if _is_attention_layer(fields, index) else LINEAR
    default = _SLIDING_PATTERNS.get(model_type, 0)
    pattern = fields.integer("sliding_window_pattern", "_sliding_window_pattern", default=default)
    if pattern:
        return FULL if (index + 1) % pattern == 0 else SLIDING
    is_sliding = bool(fields.find("sliding_window")) and fields.flag("use_sliding_window") is not False
    below = fields.integer("max_window_layers", low=0, default=0)
    return SLIDING if is_sliding and index >= below else FULL


def _is_attention_layer(fields: Fields, index: int) -> bool:
    indices = fields.find("attn_layer_indices")
    if isinstance(indices, list):
        return index in indices
    if fields.find("full_attention_interval") is not None:
        return (index + 1) % fields.integer("full_attention_interval") == 0
    period = fields.integer("attn_layer_period")
    return index % period == fields.integer("attn_layer_offset", low=0, default=0)


def latent_width(fields: Fields) -> int:
    """Elements that latent attention caches per token: the compressed vector and the rotary key."""
    rank = fields.integer("kv_lora_rank", high=_MOST, default=0)
    return rank + fields.integer("qk_rope_head_dim", low=0, high=_MOST, default=0) if rank else 0


def linear_state(fields: Fields) -> int:
    """Elements of one linear-attention layer's state, whatever the length: recurrence and convolution."""
    if fields.find("linear_num_value_heads") is not None:
        return _delta_net_state(fields)
    if fields.find("mamba_d_state", "ssm_state_size", "state_size", "mamba_state_dim") is not None:
        return _state_space_state(fields)
    if fields.find("conv_L_cache") is not None:
        return fields.integer("hidden_size") * fields.integer("conv_L_cache", high=_MOST)
    hidden = fields.integer("hidden_size", "n_embd", "n_embed", "d_model", "dim", high=_MOST)
    return hidden * fields.integer("head_dim", high=_MOST, default=128)


def _delta_net_state(fields: Fields) -> int:
    key_heads = fields.integer("linear_num_key_heads", high=_MOST)
    value_heads = fields.integer("linear_num_value_heads", high=_MOST)
    key_dim = fields.integer("linear_key_head_dim", high=_MOST)
    value_dim = fields.integer("linear_value_head_dim", high=_MOST)
    kernel = fields.integer("linear_conv_kernel_dim", high=_MOST, default=4)
    return value_heads * key_dim * value_dim + (2 * key_heads * key_dim + value_heads * value_dim) * kernel


def _state_space_state(fields: Fields) -> int:
    hidden = fields.integer("hidden_size", "d_model", high=_MOST)
    expand = fields.positive("mamba_expand", "expand") or 2.0
    inner = fields.integer("mamba_d_ssm", "intermediate_size", high=_MOST, default=int(expand * hidden))
    state = fields.integer("mamba_d_state", "ssm_state_size", "state_size", "mamba_state_dim", high=_MOST)
    kernel = fields.integer("mamba_d_conv", "conv_kernel", high=_MOST, default=4)
    return inner * (state + kernel)
