"""The ways to place a model that use GPUs."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, chain, combinations
from typing import NamedTuple

from engine.plan.devices import Devices
from engine.plan.draft import Draft, Filling, disk_need
from engine.plan.module import Module
from engine.plan.need import Need
from engine.plan.spread import full_before_next
from engine.values import Budget, Tier

_MOVABLE = 3
"""Of the modules outside the main list, how many of the largest may leave the GPUs."""

Cut = Callable[[Sequence[int], Sequence[int]], list[int] | None]


class _Split(NamedTuple):
    """What stays on the GPUs and what leaves them.

    Attributes:
        kept: on the GPUs, in forward order.
        ends: where each GPU's stretch of them ends.
        moved: off the GPUs, in forward order.
        first: index of the first GPU in use, which computes them, too.
        layers: how many of the main list are kept.
    """

    kept: list[Module]
    ends: list[int]
    moved: list[Module]
    first: int = 0
    layers: int = 0


class GpuWays:
    """Layers lie on GPUs in forward order, a stretch of them on each; the rest in RAM or on disk.

    The choice of what may leave the GPUs does not depend on the budgets, and every stretch is as long
    as it can be: more budget leaves every way possible that was possible before.
    """

    def __init__(self, need: Need, devices: Devices, order: Sequence[Budget]) -> None:
        """Prepare.

        Args:
            need: of the model.
            devices: what it may take.
            order: the GPUs, in the order that layers go onto them.
        """
        self._need = need
        self._devices = devices
        self._order = order
        taken = need.gpu_activation_bytes
        self._rooms = [
            gpu.free_bytes - devices.gpu_runtime_bytes(gpu.device) - taken if gpu.free_bytes else 0
            for gpu in order
        ]
        self._ram_room = devices.ram.free_bytes - devices.ram_runtime_bytes(has_gpus=True)
        self._kept_sums = list(accumulate((layer.bytes for layer in need.layers), initial=0))
        self._kv_sums = list(accumulate((need.kv[layer.name] for layer in need.layers), initial=0))
        self._widest = max((layer.plain_bytes for layer in need.layers), default=0)

    def whole(self, cut: Cut = full_before_next) -> Filling | None:
        """Every module on the GPUs; None where they do not fit.

        Args:
            cut: how the row of modules is cut into stretches.
        """
        if self._ram_room < 0:
            return None
        ends = cut(self._sums(self._need.modules), self._rooms)
        return self._filled(_Split(self._need.modules, ends, [])) if ends else None

    def alone(self) -> Iterator[Filling]:
        """Every module on one GPU, for each one that holds them all."""
        for index, room in enumerate(self._rooms):
            rooms = [room if at == index else 0 for at in range(len(self._rooms))]
            ends = full_before_next(self._sums(self._need.modules), rooms)
            if ends and self._ram_room >= 0:
                yield self._filled(_Split(self._need.modules, ends, []))

    def partial(self, cut: Cut = full_before_next) -> Iterator[Filling]:
        """For each choice of modules outside the main list, the way that moves the fewest layers off.

        accelerate computes what lies elsewhere on the first GPU in CUDA's order that is in use, which has
        to be the first of this order, too.

        Args:
            cut: how the row of kept modules is cut into stretches.
        """
        yield from map(self._filled, self._splits(cut))

    def rest_fits_ram(self) -> bool:
        """Whether some way leaves nothing on disk."""
        return any(self._count_in_ram(split.moved) == len(split.moved) for split in self._splits())

    def _splits(self, cut: Cut = full_before_next) -> Iterator[_Split]:
        for left_out in self._choices() if self._ram_room >= 0 else ():
            best: _Split | None = None
            for first in range(len(self._order)):
                split = self._fullest(first, left_out, -1 if best is None else best.layers, cut)
                best = split or best
            if best is not None:
                yield best

    def _choices(self) -> Iterator[frozenset[str]]:
        outside = [module for module in self._need.modules if module.layer is None and module.bytes]
        largest = sorted(outside, key=lambda module: -module.bytes)[:_MOVABLE]
        names = [module.name for module in largest]
        sizes = range(len(names) + 1)
        return map(frozenset, chain.from_iterable(combinations(names, size) for size in sizes))

    def _fullest(self, first: int, left_out: frozenset[str], at_least: int, cut: Cut) -> _Split | None:
        """The split that keeps the most layers, and more than `at_least`, from one first GPU on."""
        for count in range(self._most_layers(first, left_out), at_least, -1):
            kept, moved = self._parted(count, left_out)
            extra = self._extra(count, moved)
            if extra > self._rooms[first] or not self._rest_fits(moved):
                return None
            rooms = [0] * first + [self._rooms[first] - extra, *self._rooms[first + 1 :]]
            ends = cut(self._sums(kept), rooms)
            if ends and ends[first]:
                return _Split(kept, ends, moved, first, count)
        return None

    def _most_layers(self, first: int, left_out: frozenset[str]) -> int:
        """No more layers than this can be kept: what all GPUs together have room for."""
        outside = sum(
            module.bytes
            for module in self._need.modules
            if module.layer is None and module.name not in left_out
        )
        room = sum(max(0, room) for room in self._rooms[first:]) - self._need.kv_bytes - outside
        return bisect_right(self._kept_sums, room) - 1

    def _parted(self, count: int, left_out: frozenset[str]) -> tuple[list[Module], list[Module]]:
        gone = left_out | {layer.name for layer in self._need.layers[count:]}
        kept = [module for module in self._need.modules if module.name not in gone]
        return kept, [module for module in self._need.modules if module.name in gone]

    def _extra(self, count: int, moved: Sequence[Module]) -> int:
        """What the first GPU holds of modules that rest elsewhere: their KV cache, and the one at work."""
        widest = self._widest if count < len(self._need.layers) else 0
        buffer = max((module.plain_bytes for module in moved), default=0)
        return self._need.kv_bytes - self._kv_sums[count] + max(widest, buffer)

    def _rest_fits(self, moved: Sequence[Module]) -> bool:
        on_disk = moved[self._count_in_ram(moved) :]
        return disk_need(on_disk, self._devices.disk) <= self._devices.disk.free_bytes

    def _count_in_ram(self, moved: Sequence[Module]) -> int:
        sums = list(accumulate(module.plain_bytes for module in moved))
        return bisect_right(sums, self._ram_room)

    def _sums(self, modules: Sequence[Module]) -> list[int]:
        kv = self._need.kv
        return list(accumulate((module.bytes + kv[module.name] for module in modules), initial=0))

    def _filled(self, split: _Split) -> Filling:
        draft = Draft(self._need.footprint, self._devices, has_gpus=True)
        starts = [0, *split.ends[:-1]]
        for index, (gpu, start, end) in enumerate(zip(self._order, starts, split.ends, strict=True)):
            stretch = split.kept[start:end]
            if stretch:
                draft.put(stretch, Tier.GPU, gpu.device, packed=True)
                draft.reserve_gpu(gpu.device, self._need, stretch)
            if index == split.first and split.moved:
                extra_kv = sum(self._need.kv[module.name] for module in split.moved)
                draft.reserve(gpu.device, extra_kv, self._extra(split.layers, split.moved) - extra_kv)
        in_ram = self._count_in_ram(split.moved)
        draft.put(split.moved[:in_ram], Tier.STREAM, "ram")
        draft.put(split.moved[in_ram:], Tier.DISK, "disk")
        return draft.finish()
