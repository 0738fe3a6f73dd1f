"""What each layer's cache holds at a few lengths, and the rule behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch

from engine.blueprints import CacheGrowth
from engine.hf.decode import Runner
from engine.hf.dryrun_tally import address, tensors_in

_SHORTEST = (2, 3)
_FAR = 8192
_LONGEST_LIST = 1 << 20


def cache_growths(runner: Runner, layers: int, context_window: int) -> list[CacheGrowth]:
    """Return what the first `layers` caches take, found by filling them.

    Args:
        runner: of a model on the meta device.
        layers: how many of them the model computes.
        context_window: tokens the model was made for.
    """
    windows = [getattr(layer, "sliding_window", None) or 0 for layer in runner.kv.cache.layers]
    far = max(8, min(context_window, _LONGEST_LIST, max(_FAR, 2 * max(windows, default=0))))
    held: dict[int, list[int]] = {}
    for length in (*_SHORTEST, far // 2, far):
        fill(runner, length)
        held[length] = [cache_bytes(layer) for layer in runner.kv.cache.layers[:layers]]
    present = min(map(len, held.values()))
    return [
        growth_of(index, {length: sizes[index] for length, sizes in held.items()}) for index in range(present)
    ]


def fill(runner: Runner, length: int) -> None:
    """Start over with a cache of `length` tokens, the last one computed alone, as decode does."""
    runner.kv.drop()
    runner.feed([0] * (length - 1))
    runner.feed([0])


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
