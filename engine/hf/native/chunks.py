"""Attention of a chunk of new tokens behind a cache, by a kernel of our own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeGuard

import torch

from engine.hf.native.library import FORMATS, Chunk, Foreign, Kernels
from engine.hf.packed_attention import single_step_attention

_UNSERVED = ("softcap", "position_bias", "cache", "s_aux")
"""Arguments of AttentionInterface that change what is computed."""


class ChunkAttention:
    """Attention of some new tokens over a cache, in the signature of transformers' AttentionInterface.

    torch's own takes keys and values that are repeated for every query head, and bf16 products that oneDNN
    does not compute. What is not served here goes to torch.
    """

    def __init__(self, kernels: Kernels) -> None:
        """Keep what to compute with."""
        self._kernels = kernels

    def __call__(
        self, module: Foreign, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
        attention_mask: torch.Tensor | None, **kwargs: float | bool | torch.Tensor | None,
    ) -> tuple[torch.Tensor, None]:  # fmt: skip
        """Return attention [batch, tokens, heads, width]."""
        served = self._kernels.attends_to_chunks and _is_served(query, key, value, kwargs)
        if not (served and _is_plain(attention_mask, query, key)):
            return single_step_attention(module, query, key, value, attention_mask, **kwargs)
        scaling = kwargs.get("scaling")
        scale = float(scaling) if isinstance(scaling, float) else query.shape[-1] ** -0.5
        return attended(self._kernels, (query, key, value), attention_mask, scale), None


def attended(
    kernels: Kernels,
    heads: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    mask: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """Attend.

    Args:
        kernels: to compute with.
        heads: queries [1, heads, tokens, width], keys [1, kv_heads, seen, width] and values [1, kv_heads,
            seen, value_width], each one's numbers side by side.
        mask: true where a token attends, [1, 1, tokens, seen].
        scale: of the products.

    Returns:
        [1, tokens, heads, value_width].
    """
    query, key, value = heads
    output = query.new_empty(1, query.shape[2], query.shape[1], value.shape[3])
    chunk = Chunk(
        format=FORMATS[query.dtype], tokens=query.shape[2], seen=key.shape[2], heads=query.shape[1],
        kv_heads=key.shape[1], head_width=key.shape[3], value_width=value.shape[3], scale=scale,
        query_head=query.stride(1), query_token=query.stride(2), key_head=key.stride(1),
        key_token=key.stride(2), value_head=value.stride(1), value_token=value.stride(2),
        mask_token=mask.stride(2), queries=query.data_ptr(), keys=key.data_ptr(),
        values=value.data_ptr(), mask=mask.data_ptr(), output=output.data_ptr(),
    )  # fmt: skip
    kernels.attend(chunk)
    return output


def _is_served(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, kwargs: Mapping[str, object]
) -> bool:
    """One conversation's tokens in RAM, in a dtype that there is a kernel for, without anything special."""
    heads = (query, key, value)
    right = all(tensor.dtype == query.dtype and tensor.device.type == "cpu" for tensor in heads)
    alone = all(tensor.shape[0] == 1 and tensor.stride(3) == 1 for tensor in heads)
    shared = key.shape[1] == value.shape[1] and query.shape[1] % key.shape[1] == 0
    special = any(kwargs.get(name) is not None for name in _UNSERVED) or bool(kwargs.get("dropout"))
    computed = query.dtype in FORMATS and not torch.is_grad_enabled()
    return computed and right and alone and shared and not special


def _is_plain(mask: torch.Tensor | None, query: torch.Tensor, key: torch.Tensor) -> TypeGuard[torch.Tensor]:
    """Flags of our own shape: the same for all heads, of several tokens, each token's side by side."""
    if mask is None or mask.dtype != torch.bool or query.shape[2] == 1:
        return False
    return mask.shape == (1, 1, query.shape[2], key.shape[2]) and mask.stride(3) == 1
