"""Closed forms for what grows with the context: the KV cache and the activations of prefill."""

from __future__ import annotations

from engine.blueprints import CacheGrowth
from engine.checkpoint import ModelConfig
from engine.checkpoint.attention import CONVOLUTION, LINEAR, SHARED, SLIDING
from engine.plan.prefill import PrefillChunk

PREFILL_CHUNK = 512
"""Tokens that one pass of prefill computes."""
_STATELESS = ("moe", "mlp", "dummy", SHARED)
_HYBRID_SLIDING = "hybrid_sliding"
_FLOAT_BYTES = 4
_LOGIT_BYTES = 16
"""Of the last token, per word in the vocabulary: float32 logits, sorted, their order, probabilities."""
_MARGIN = 1.1
"""Classes differ by a few hundredths from what is counted here, and a plan must not be under."""


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
    state = config.linear_state * _FLOAT_BYTES + config.convolution_state * itemsize
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


def activation_bytes(
    config: ModelConfig,
    context_window: int,
    itemsize: int,
    *,
    gpu: bool = False,
    chunk_tokens: int = PREFILL_CHUNK,
) -> int:
    """Peak of one chunk of prefill on a device that computes, beside weights and KV cache.

    The residual stream and the widest of what a layer computes one after the other: projections and
    their rotation, attention, MLP or experts, a recurrent mixer. The factors are those of transformers'
    layers, counted in dry runs.

    Args:
        config: of the model.
        context_window: tokens in the cache when the chunk is done.
        itemsize: bytes of one computed element.
        gpu: its fused attention keeps no scores and repacks nothing.
        chunk_tokens: computed at once.
    """
    chunk = PrefillChunk(config, min(chunk_tokens, context_window), context_window, itemsize)
    parts = (chunk.projection_bytes(), chunk.attention_bytes(gpu=gpu), chunk.mlp_bytes(), chunk.mixer_bytes())
    surplus = _surplus_bytes(chunk)
    held = chunk.residual_bytes() + max(parts) + surplus + _FLOAT_BYTES * config.vocab_size
    return max(round(_MARGIN * held), _LOGIT_BYTES * config.vocab_size)


def _surplus_bytes(chunk: PrefillChunk) -> int:
    """What sliding windows hold until the next chunk: they are cut from storages that it is still in."""
    layers = range(chunk.config.layers)
    growths = [layer_growth(chunk.config, layer, chunk.itemsize) for layer in layers]
    windows = (growth for growth in growths if growth.longest_tokens)
    return sum(
        growth.bytes_per_token * min(chunk.tokens, max(0, chunk.context_tokens - growth.longest_tokens))
        for growth in windows
    )
