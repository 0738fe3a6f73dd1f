"""Closed forms for what grows with the context: the KV cache and the activations of prefill."""

from __future__ import annotations

from engine.blueprints import CacheGrowth
from engine.checkpoint import ModelConfig
from engine.checkpoint.attention import CONVOLUTION, LINEAR, SHARED, SLIDING

PREFILL_CHUNK = 512
"""Tokens that one pass of prefill computes."""
_STATELESS = ("moe", "mlp", "dummy", SHARED)
_HYBRID_SLIDING = "hybrid_sliding"
_STATE_ITEMSIZE = 4
_LOGIT_BYTES = 16
"""Of the last token, per word in the vocabulary: float32 logits, sorted, their order, probabilities."""
_RESIDUAL_COPIES = 4
"""Of the chunk's hidden states: residual, normalised, attention's output and the MLP's."""
_MLP_COPIES = 3
"""Gate, up, and their product."""


def layer_growth(config: ModelConfig, layer: int, itemsize: int) -> CacheGrowth:
    """What one layer's cache takes, as transformers' DynamicCache holds it.

    Grouped queries: 2 x kv_heads x head_dim per token. Latent attention: the latent and the rotary
    key. Sliding: no more tokens than its window. Linear: a state of constant size, its recurrence
    in float32. Hybrid layers: both.

    Args:
        config: of the model.
        layer: its index.
        itemsize: bytes of one computed element.
    """
    kind = config.layer_types[layer]
    state = config.linear_state * _STATE_ITEMSIZE + config.convolution_state * itemsize
    if kind in _STATELESS:
        return CacheGrowth(layer=layer)
    if kind in {LINEAR, CONVOLUTION}:
        return CacheGrowth(layer=layer, constant_bytes=state)
    return CacheGrowth(
        layer=layer,
        bytes_per_token=(config.latent_width or 2 * config.kv_heads * config.head_dim) * itemsize,
        constant_bytes=state if kind.startswith("hybrid") else 0,
        longest_tokens=config.sliding_window if kind in {SLIDING, _HYBRID_SLIDING} else 0,
    )


def layer_kv_bytes(config: ModelConfig, layer: int, context_window: int, itemsize: int) -> int:
    """Bytes that one layer's cache takes at the full window."""
    growth = layer_growth(config, layer, itemsize)
    tokens = min(context_window, growth.longest_tokens or context_window)
    return growth.constant_bytes + growth.bytes_per_token * tokens


def activation_bytes(config: ModelConfig, context_window: int, itemsize: int) -> int:
    """Peak of one chunk of prefill on a device that computes.

    The wider of attention (queries, keys, values, the mask, one layer's cache repeated for every
    query head) and MLP, beside the residual stream and the last token's logits.
    """
    chunk = min(PREFILL_CHUNK, context_window)
    width = config.heads * config.head_dim
    projections = chunk * 2 * (width + config.kv_heads * config.head_dim)
    repeated = 2 * width * context_window
    attention = projections + repeated + chunk * context_window
    mlp = _MLP_COPIES * chunk * config.intermediate_size
    residual = _RESIDUAL_COPIES * chunk * config.hidden_size
    return (residual + max(attention, mlp)) * itemsize + config.vocab_size * _LOGIT_BYTES
