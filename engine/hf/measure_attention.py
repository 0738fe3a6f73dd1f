"""How fast one token attends to a KV cache on the CPU, and how fast the cache grows."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch.nn import functional

from engine.hf.measure_clock import seconds_of, timed, usual

HEADS, GROUPS, WIDTH, TOKENS = 16, 4, 64, 2048
CAPACITY = TOKENS + 128
"""Tokens that a cache has room for: heads lie apart, and products in steps copy them together."""
CYCLED_BYTES = 96 << 20
"""More than most caches of a CPU hold."""
CACHES, ROUNDS = 96, 3


class AttentionSpeed(NamedTuple):
    """What one token's attention takes.

    Attributes:
        flops: per second, fused, with grouped queries.
        bandwidth: KV bytes per second, fused, one key and value per query.
        eager_bandwidth: the same in steps.
    """

    flops: float
    bandwidth: float
    eager_bandwidth: float


@torch.inference_mode()
def attention_speed(dtype: torch.dtype) -> AttentionSpeed:
    """Measure attention of one token to 2,048 others."""
    query = torch.full((1, HEADS, 1, WIDTH), 0.5, dtype=dtype)
    grouped, single = _caches(dtype, GROUPS), _caches(dtype, HEADS)
    fused = seconds_of(partial(_grouped, query, *kv) for kv in grouped)
    whole = seconds_of(partial(functional.scaled_dot_product_attention, query, *kv) for kv in single)
    stepwise = seconds_of(partial(_eager, query, *kv) for kv in single)
    size = 2 * HEADS * WIDTH * TOKENS * dtype.itemsize
    return AttentionSpeed(4 * HEADS * WIDTH * TOKENS / fused, size / whole, size / stepwise)


def _caches(dtype: torch.dtype, heads: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    count = max(4, CYCLED_BYTES // (2 * heads * WIDTH * TOKENS * dtype.itemsize) // 2)
    made = torch.full((count, 2, 1, heads, CAPACITY, WIDTH), 0.5, dtype=dtype)[..., :TOKENS, :]
    return [(pair[0], pair[1]) for pair in made]


def _grouped(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    return functional.scaled_dot_product_attention(query, keys, values, enable_gqa=True)


def _eager(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    scores = torch.matmul(query, keys.transpose(2, 3)) * WIDTH**-0.5
    weights = functional.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    return torch.matmul(weights, values)


@torch.inference_mode()
def cache_bandwidth() -> float:
    """KV bytes per second that appending one token copies, layer after layer, as a reply does it."""
    rows = torch.full((1, GROUPS, 1, WIDTH), 0.5, dtype=torch.bfloat16)
    held = [rows.repeat(1, 1, TOKENS, 1) for _ in range(CACHES)]
    samples = []
    for _ in range(ROUNDS):
        samples = [timed(partial(_append, held, index, rows)) for index in range(len(held))]
    return held[0].nbytes / usual(samples)


def _append(held: list[torch.Tensor], index: int, row: torch.Tensor) -> None:
    held[index] = torch.cat([held[index], row], dim=-2)
