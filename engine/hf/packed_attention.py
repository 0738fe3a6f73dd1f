"""Attention of one new token: the query heads that share a KV head become the rows of one product."""

from __future__ import annotations

from typing import cast

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers.integrations.sdpa_attention import sdpa_attention_forward

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


def single_step_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: float | bool | torch.Tensor | None,
) -> tuple[torch.Tensor, None]:
    """Attend as transformers' sdpa does, and packed where one new token's heads share keys and values.

    Args:
        module: that attends.
        query: [batch, heads, tokens, head_dim].
        key: [batch, kv_heads, seen, head_dim].
        value: [batch, kv_heads, seen, value_dim].
        attention_mask: as sdpa takes it, or None.
        kwargs: of AttentionInterface.

    Returns:
        [batch, tokens, heads, value_dim], and no weights.
    """
    same_for_all_heads = attention_mask is None or attention_mask.shape[1] == 1
    plain = same_for_all_heads and kwargs.get("position_bias") is None and kwargs.get("cache") is None
    if plain and query.shape[2] == 1 and query.shape[1] > key.shape[1]:
        scaling = cast("float | None", kwargs.get("scaling"))
        return packed_attention(module, query, key, value, attention_mask, scaling)
    attended: tuple[torch.Tensor, None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, **kwargs
    )
    return attended
