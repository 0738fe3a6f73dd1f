"""What one call of scaled_dot_product_attention holds beside its arguments and its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from engine.plan.processor import has_matrix_units

_ARGUMENTS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
_HALF = (torch.float16, torch.bfloat16)
_FLOAT_BYTES = 4
_REPACKED_FROM = 64
"""Queries and keys; from there on, the CPU's kernel repacks keys and values of two bytes."""


class Attention(NamedTuple):
    """One call.

    Attributes:
        query: [1, heads, queries, width].
        key: [1, key heads, keys, width].
        value: [1, key heads, keys, another width].
        mask: broadcast to [1, heads, queries, keys]; None for none.
        is_causal: every query sees the keys up to its own.
        enable_gqa: several query heads share a key head.
    """

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    mask: torch.Tensor | None
    is_causal: bool
    enable_gqa: bool

    @classmethod
    def called(cls, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Attention:
        """Take the operation's own arguments."""
        given = dict(zip(_ARGUMENTS, args, strict=False)) | dict(kwargs)
        return cls(
            query=given["query"],
            key=given["key"],
            value=given["value"],
            mask=given.get("attn_mask"),
            is_causal=given.get("is_causal", False),
            enable_gqa=given.get("enable_gqa", False),
        )

    def result(self) -> torch.Tensor:
        """Return a tensor of the result's shape."""
        return self.query.new_empty((*self.query.shape[:-1], self.value.shape[-1]))

    def gpu_bytes(self) -> int:
        """A fused kernel's: one sum a query, and the mask as numbers, padded once more."""
        return self._sums() + 2 * self._mask_bytes(self.query.itemsize)

    def cpu_bytes(self) -> int:
        """Of the kernel that torch chooses on the CPU."""
        if self._is_fused_on_cpu():
            return self._sums() + self._mask_bytes(self.query.itemsize) + self._repacked()
        return self._scored()

    def _is_fused_on_cpu(self) -> bool:
        """Ask torch, with tensors of the same shapes that hold one row each."""
        mask = None if self.mask is None else torch.empty((), dtype=self.mask.dtype).expand(self.mask.shape)
        query, key, value = map(_one_row, (self.query, self.key, self.value))
        return bool(
            torch._fused_sdp_choice(query, key, value, mask, 0.0, self.is_causal, enable_gqa=self.enable_gqa)
        )

    def _sums(self) -> int:
        return _FLOAT_BYTES * self.query.numel() // self.query.shape[-1]

    def _mask_bytes(self, itemsize: int) -> int:
        return self.mask.numel() * itemsize if self.mask is not None and self.mask.dtype is torch.bool else 0

    def _repacked(self) -> int:
        """Keys and values of every query head, where the kernel packs them for the matrix units."""
        queries, keys = self.query.shape[-2], self.key.shape[-2]
        if self.query.dtype not in _HALF or min(queries, keys) < _REPACKED_FROM or not has_matrix_units():
            return 0
        width = self.key.shape[-1] + self.value.shape[-1]
        return self.query.shape[-3] * keys * width * self.query.itemsize

    def _scored(self) -> int:
        """Of the plain way: float copies, scaled and packed ones, scores and their softmax, the result."""
        heads, queries = self.query.shape[-3:-1]
        keys, key_width = self.key.shape[-2:]
        width = self.value.shape[-1]
        multiplied = self.query.numel() + heads * keys * key_width
        copied = multiplied + heads * keys * width if self.query.dtype in _HALF else 0
        scores = 2 * heads * queries * keys
        result = heads * queries * width
        itemsize = max(_FLOAT_BYTES, self.query.itemsize)
        return itemsize * (copied + 2 * multiplied + scores + result) + self._mask_bytes(itemsize)


def _one_row(tensor: torch.Tensor) -> torch.Tensor:
    row = torch.empty(tensor.shape[-1], dtype=tensor.dtype)
    return row.as_strided(tensor.shape, (*(0,) * (tensor.ndim - 1), 1))
