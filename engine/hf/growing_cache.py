"""Caches of transformers, made to grow in place."""

from __future__ import annotations

from typing import Any

from transformers import cache_utils
from transformers.cache_utils import (
    Cache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionAndFullAttentionLayer,
)

from engine.hf.growing import GrowingLayer, GrowingWindowLayer
from engine.hf.growing_hybrid import GrowingHybridLayer, GrowingHybridWindowLayer

_HYBRID_WINDOW = getattr(cache_utils, "LinearAttentionAndSlidingWindowAttentionLayer", None)
"""None in a transformers that has no such families yet."""


def grow_in_place(cache: Cache, most_tokens: int = 0) -> None:
    """Exchange a fresh cache's layers that copy themselves at every token.

    Args:
        cache: of transformers.
        most_tokens: that are foreseen; 0 where nobody knows.
    """
    cache.layers[:] = [_growing(layer, most_tokens) for layer in cache.layers]


def _growing(layer: Any, most_tokens: int) -> object:  # noqa: ANN401 - transformers has no types
    kind = type(layer)
    if kind is DynamicLayer:
        return GrowingLayer(most_tokens)
    if kind is DynamicSlidingWindowLayer:
        return GrowingWindowLayer(layer.sliding_window, most_tokens)
    if kind is LinearAttentionAndFullAttentionLayer:
        return GrowingHybridLayer(most_tokens).beside(layer)
    if kind is _HYBRID_WINDOW:
        return GrowingHybridWindowLayer(layer.sliding_window, most_tokens).beside(layer)
    return layer
