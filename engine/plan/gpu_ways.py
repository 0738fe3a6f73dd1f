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
from engine.plan.row import Row
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
        moved_kv_bytes: their KV cache, which lies where they are computed.
        buffer_bytes: held there while one of them is at work.
    """

    kept: Sequence[Module]
    ends: list[int]
    moved: Sequence[Module] = ()
    first: int = 0
    layers: int = 0
    moved_kv_bytes: int = 0
    buffer_bytes: int = 0


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

    def whole(self, cut: Cut = full_before_next) -> Filling | None:
        """Every module on the GPUs; None where they do not fit.

        Args:
            cut: how the row of modules is cut into stretches.
        """
        if self._ram_room < 0:
            return None
        ends = cut(self._sums(self._need.modules), self._rooms)
        return self._filled(_Split(self._need.modules, ends)) if ends else None

    def alone(self) -> Iterator[Filling]:
        """Every module on one GPU, for each one that holds them all."""
        for index, room in enumerate(self._rooms):
            rooms = [room if at == index else 0 for at in range(len(self._rooms))]
            ends = full_before_next(self._sums(self._need.modules), rooms)
            if ends and self._ram_room >= 0:
                yield self._filled(_Split(self._need.modules, ends))

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
            row = Row(self._need, left_out)
            best: _Split | None = None
            for first in range(len(self._order)):
                split = self._fullest(row, first, -1 if best is None else best.layers, cut)
                best = split or best
            if best is not None:
                yield best

    def _choices(self) -> Iterator[frozenset[str]]:
        outside = [module for module in self._need.modules if module.layer is None and module.bytes]
        largest = sorted(outside, key=lambda module: -module.bytes)[:_MOVABLE]
        names = [module.name for module in largest]
        sizes = range(len(names) + 1)
        return map(frozenset, chain.from_iterable(combinations(names, size) for size in sizes))

    def _fullest(self, row: Row, first: int, at_least: int, cut: Cut) -> _Split | None:
        """The split that keeps the most layers, and more than `at_least`, from one first GPU on."""
        room = sum(max(0, room) for room in self._rooms[first:])
        for count in range(row.most_layers(room), at_least, -1):
            kv_bytes, buffer_bytes = row.moved_kv_bytes(count), row.buffer_bytes(count)
            left = self._rooms[first] - kv_bytes - buffer_bytes
            if left < 0:
                return None
            ends = cut(row.sums(count), [0] * first + [left, *self._rooms[first + 1 :]])
            if ends and ends[first]:
                kept, moved = row.parted(count)
                split = _Split(kept, ends, moved, first, count, kv_bytes, buffer_bytes)
                return split if self._rest_fits(moved) else None
        return None

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
                draft.reserve(gpu.device, split.moved_kv_bytes, split.buffer_bytes)
        in_ram = self._count_in_ram(split.moved)
        draft.put(split.moved[:in_ram], Tier.STREAM, "ram")
        draft.put(split.moved[in_ram:], Tier.DISK, "disk")
        return draft.finish()
