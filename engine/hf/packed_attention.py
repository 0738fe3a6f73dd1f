"""Attention of one new token: the query heads that share a KV head become the rows of one product."""

from __future__ import annotations

import torch
from torch.nn.functional import scaled_dot_product_attention

NAME = "packed"


def packed_attention(
    _module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **_ignored: object,
) -> tuple[torch.Tensor, None]:
    """Attend without repeating keys and values for every query head.

    Args:
        query: [batch, heads, 1, head_dim].
        key: [batch, kv_heads, tokens, head_dim].
        value: [batch, kv_heads, tokens, value_dim].
        attention_mask: true where to attend, [batch or 1, 1, 1, tokens]; None for everywhere.
        scaling: of the products; None takes head_dim ** -0.5.

    Returns:
        [batch, 1, heads, value_dim], and no weights.
    """
    batch, heads, _, width = query.shape
    kv_heads = key.shape[1]
    rows = query.reshape(batch, kv_heads, heads // kv_heads, width)
    attended = scaled_dot_product_attention(rows, key, value, attn_mask=attention_mask, scale=scaling)
    return attended.reshape(batch, 1, heads, value.shape[-1]), None
