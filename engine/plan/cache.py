"""Closed forms for what grows with the context: the KV cache and the activations of prefill."""

from __future__ import annotations

from engine.checkpoint import ModelConfig
from engine.checkpoint.attention import LINEAR, SLIDING

PREFILL_CHUNK = 512
"""Tokens that one pass of prefill computes."""
_STATELESS = ("moe", "mlp")
_STATE_ITEMSIZE = 4
_LOGIT_BYTES = 16
"""Of the last token, per word in the vocabulary: float32 logits, sorted, their order, probabilities."""
_RESIDUAL_COPIES = 4
"""Of the chunk's hidden states: residual, normalised, attention's output and the MLP's."""
_MLP_COPIES = 3
"""Gate, up, and their product."""


def layer_kv_bytes(config: ModelConfig, layer: int, context_window: int, itemsize: int) -> int:
    """Bytes that one layer's cache takes at the full window.

    Grouped queries: 2 x kv_heads x head_dim per token. Latent attention: the latent and the
    rotary key. Sliding: no more tokens than its window. Linear: a state of constant size.
    """
    kind = config.layer_types[layer]
    state = config.linear_state * _STATE_ITEMSIZE
    if kind in _STATELESS:
        return 0
    if kind in {LINEAR, "conv"}:
        return state
    tokens = context_window
    if kind in {SLIDING, "hybrid_sliding"} and config.sliding_window:
        tokens = min(tokens, config.sliding_window)
    per_token = config.latent_width or 2 * config.kv_heads * config.head_dim
    return per_token * itemsize * tokens + (state if kind.startswith("hybrid") else 0)


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
