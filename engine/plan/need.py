"""What every module of one footprint needs at one context window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.blueprints import CacheGrowth
from engine.plan.footprint import Footprint
from engine.plan.in_place import ring_bytes
from engine.plan.module import Module
from engine.plan.runtime import (
    cache_gap_bytes,
    chunk_gap_bytes,
    cpu_chunk,
    kernel_bytes,
    loading_bytes,
    packed_activation_bytes,
)

KEPT_STATES = 2
"""Copies that the engine keeps of what a layer's cache cannot be cropped back to."""


class Need:
    """Bytes by module: weights, cache, and what a device that computes holds beside them."""

    def __init__(
        self, footprint: Footprint, context_window: int, growths: Mapping[str, CacheGrowth] | None = None
    ) -> None:
        """Add up what does not depend on the placement.

        Args:
            footprint: what the model needs.
            context_window: tokens the KV cache is reserved for.
            growths: `cache_growths` of the footprint, where they are at hand.
        """
        growths = cache_growths(footprint) if growths is None else growths
        self.footprint = footprint
        self.context_window = context_window
        self.modules = [module for module in footprint.modules if not module.tied_to]
        self.layers = [module for module in self.modules if module.layer is not None]
        self.kv = {module.name: 0 for module in self.modules}
        self.kv |= {name: cached_bytes(growth, context_window) for name, growth in growths.items()}
        self.kv_bytes = sum(self.kv.values())
        self.activation_bytes = footprint.activation_bytes(context_window)
        self._is_in_place = footprint.is_in_place
        self._tied = frozenset(module.tied_to for module in footprint.modules)
        self.cpu_chunk = cpu_chunk(footprint, context_window)
        on_gpu = footprint.activation_bytes(context_window, gpu=True)
        self.gpu_activation_bytes = on_gpu or self.activation_bytes

    def cpu_reserve_bytes(self, on_disk: Sequence[Module]) -> int:
        """What RAM holds beside weights and cache where the CPU computes everything.

        Beside modules on disk: the largest chunk, and what is read ahead of them. Without any:
        a chunk, or whatever loading holds for a moment beyond what comes to rest there.
        """
        if on_disk:
            gaps = chunk_gap_bytes(self.footprint, self.activation_bytes) + cache_gap_bytes(self.kv_bytes)
            gaps += kernel_bytes(self.footprint)
            return self.activation_bytes + gaps + self.read_ahead_bytes(on_disk)
        footprint = self.footprint
        chunk = footprint.activation_bytes(self.context_window, chunk_tokens=self.cpu_chunk)
        chunk += chunk_gap_bytes(footprint, chunk)
        chunk += packed_activation_bytes(footprint, min(self.cpu_chunk, self.context_window))
        chunk += cache_gap_bytes(self.kv_bytes) + kernel_bytes(footprint)
        loading = loading_bytes(self.modules, footprint.quantization)
        return max(chunk, loading - footprint.weight_bytes - self.kv_bytes)

    def read_ahead_bytes(self, on_disk: Sequence[Module]) -> int:
        """What the CPU holds of modules on disk: a ring of the largest, or the one that a hook fetches."""
        if not self._is_in_place:
            return max((module.plain_bytes for module in on_disk), default=0)
        return ring_bytes(on_disk, self._tied)


def cache_growths(footprint: Footprint) -> dict[str, CacheGrowth]:
    """How the cache of each layer grows, by the layer's name."""
    return {m.name: footprint.caches[m.layer] for m in footprint.modules if m.layer is not None}


def cached_bytes(growth: CacheGrowth, context_window: int) -> int:
    """Bytes of one layer's cache at the full window, with the copies that are kept to go back to.

    Keys and values that only grow are cropped instead. A sliding window is copied whole, of linear
    attention and convolutions the state of constant size.
    """
    tokens = min(context_window, growth.longest_tokens or context_window)
    size = growth.constant_bytes + growth.bytes_per_token * tokens
    return size + KEPT_STATES * (size if growth.longest_tokens else growth.constant_bytes)
