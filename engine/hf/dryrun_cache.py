"""What each layer's cache holds at a few lengths, and the rule behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from transformers.cache_utils import DynamicLayer

from engine.blueprints import CacheGrowth
from engine.hf.decode import Runner
from engine.hf.dryrun_tally import address, tensors_in
from engine.hf.kv import KVCache
from engine.hf.protocols import CacheLayer

_SHORTEST = (2, 3)
_NEAREST = 8
_NEAR = 600
"""Tokens; caches that know no window grow at one rate from there on."""


def cache_growths(runner: Runner, layers: int, context_window: int) -> list[CacheGrowth]:
    """Return what the first `layers` caches take, found by filling them.

    Args:
        runner: of a model on the meta device.
        layers: how many of them the model computes.
        context_window: tokens the model was made for.
    """
    windows = [getattr(layer, "sliding_window", None) or 0 for layer in runner.kv.cache.layers]
    far = max(_NEAREST, min(context_window, max(_NEAR, 2 * max(windows, default=0))))
    runner.kv.drop()
    held = {length: _held_at(runner, layers, length) for length in (*_SHORTEST, far // 2, far)}
    present = min(map(len, held.values()))
    return [
        growth_of(index, {length: sizes[index] for length, sizes in held.items()}) for index in range(present)
    ]


def _held_at(runner: Runner, layers: int, length: int) -> list[int]:
    """Fill the caches further, the last token alone, as decode does, and return what each of them holds."""
    lacking = length - len(runner.kv.token_ids)
    for tokens in (lacking - 1, 1):
        if tokens:
            runner.feed([0] * tokens)
    return [cache_bytes(layer) for layer in runner.kv.cache.layers[:layers]]


def growth_of(layer: int, held: Mapping[int, int]) -> CacheGrowth:
    """Return the rule behind the bytes held at four lengths, of which the two shortest are neighbours.

    A cache that holds less than its first tokens promise is bounded, or grows in coarser steps.
    """
    (first, few), (_, more), (half, many), (far, most) = sorted(held.items())
    per_token = more - few
    constant = few - per_token * first
    if most == constant + per_token * far:
        return CacheGrowth(layer=layer, bytes_per_token=per_token, constant_bytes=constant)
    if per_token > 0 and many in {most, constant + per_token * half}:
        longest = -(-(most - constant) // per_token)
        return CacheGrowth(
            layer=layer, bytes_per_token=per_token, constant_bytes=constant, longest_tokens=longest
        )
    slope = -(-(most - many) // (far - half))
    base = max(size - slope * length for length, size in held.items())
    return CacheGrowth(layer=layer, bytes_per_token=slope, constant_bytes=max(0, base))


def growth_bytes(growth: CacheGrowth, tokens: int) -> int:
    """Return what a layer's cache takes by its rule."""
    counted = min(tokens, growth.longest_tokens or tokens)
    return growth.constant_bytes + growth.bytes_per_token * counted if tokens else 0


def cache_tensors(layer: object) -> Iterator[torch.Tensor]:
    """Yield a cache layer's tensors, without single numbers."""
    return (tensor for tensor in tensors_in(vars(layer)) if tensor.ndim)


def cache_bytes(layer: object) -> int:
    """Return the bytes of the storages that a cache layer keeps alive."""
    storages = {address(tensor): tensor.untyped_storage().nbytes() for tensor in cache_tensors(layer)}
    return sum(storages.values())


def stretches(layer: CacheLayer, growth: CacheGrowth) -> bool:
    """Say whether keys and values are all that grows in a cache layer."""
    if not growth.bytes_per_token:
        return True
    if not isinstance(layer, DynamicLayer) or not layer.is_initialized:
        return False
    row = layer.keys[..., :1, :].numel() + layer.values[..., :1, :].numel()
    return bool(row * layer.keys.itemsize == growth.bytes_per_token)


def stretch(kv: KVCache, growths: Sequence[CacheGrowth], tokens: int) -> None:
    """Make a cache look as if it held `tokens` tokens, without computing them."""
    for layer, growth in zip(kv.cache.layers, growths, strict=False):
        if growth.bytes_per_token:
            held = min(tokens, growth.longest_tokens - 1) if growth.longest_tokens else tokens
            layer.keys = _of_length(layer.keys, held)
            layer.values = _of_length(layer.values, held)
            if hasattr(layer, "cumulative_length"):
                layer.cumulative_length = tokens
    kv.extend([0] * (tokens - len(kv.token_ids)))


def _of_length(tensor: torch.Tensor, tokens: int) -> torch.Tensor:
    return tensor.new_empty((*tensor.shape[:-2], tokens, tensor.shape[-1]))


def compact(layers: Sequence[object]) -> None:
    """Let every cache layer hold its tensors alone, not the larger storages that they are cut from."""
    for layer in layers:
        fields = vars(layer)
        fields.update({name: _compacted(value) for name, value in fields.items()})


def _compacted(value: object) -> object:
    if isinstance(value, torch.Tensor):
        return value.clone() if value.ndim else value
    if isinstance(value, dict):
        return {key: _compacted(item) for key, item in value.items()}
    return value
