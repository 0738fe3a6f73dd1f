"""Filling devices with modules in forward order: GPUs, then RAM, then disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from engine.plan.footprint import Footprint, Module
from engine.plan.runtime import CUDA_RAM_BYTES, GPU_RUNTIME_BYTES, RAM_RUNTIME_BYTES
from engine.values import Budget, DevicePlan, Fits, LayerPlacement, Tier

RAM_RUNTIME_WITH_CUDA_BYTES = RAM_RUNTIME_BYTES + CUDA_RAM_BYTES


class Devices(NamedTuple):
    """The budgets, by kind.

    Attributes:
        gpus: in CUDA's order; may be empty.
        ram: of the machine or the cgroup.
        disk: of the offload folder.
    """

    gpus: tuple[Budget, ...]
    ram: Budget
    disk: Budget

    @property
    def ram_runtime_bytes(self) -> int:
        """What the engine process takes before any weight."""
        return RAM_RUNTIME_WITH_CUDA_BYTES if self.gpus else RAM_RUNTIME_BYTES


class Filling(NamedTuple):
    """One way to place every module.

    Attributes:
        layers: every module once, in forward order.
        devices: one per budget.
    """

    layers: tuple[LayerPlacement, ...]
    devices: tuple[DevicePlan, ...]

    @property
    def fits(self) -> Fits:
        """The slowest place in use."""
        tiers = {layer.tier for layer in self.layers}
        if Tier.DISK in tiers:
            return Fits.DISK
        return Fits.GPU if tiers == {Tier.GPU} else Fits.GPU_RAM

    @property
    def packs(self) -> bool:
        """Quantizing on load reaches some module: one on a GPU, or all of them in RAM."""
        tiers = {layer.tier for layer in self.layers}
        return Tier.GPU in tiers or Tier.DISK not in tiers

    @property
    def rank(self) -> tuple[int, bool, int, int]:
        """Sorts the better one first: slowest place, use of a GPU, bytes on disk, bytes off the GPUs."""
        order = (Fits.GPU, Fits.GPU_RAM, Fits.DISK)
        off_gpu = [layer for layer in self.layers if layer.tier is not Tier.GPU]
        on_disk = sum(layer.bytes for layer in off_gpu if layer.tier is Tier.DISK)
        has_no_gpu = len(off_gpu) == len(self.layers)
        return order.index(self.fits), has_no_gpu, on_disk, sum(layer.bytes for layer in off_gpu)


class Filler:
    """Tries the ways to place one footprint on the devices at one context window."""

    def __init__(self, footprint: Footprint, devices: Devices, context_window: int) -> None:
        """Add up what does not depend on the way.

        Args:
            footprint: what the model needs.
            devices: what it may take.
            context_window: tokens the KV cache is reserved for.
        """
        self._footprint = footprint
        self._devices = devices
        self._modules = [module for module in footprint.modules if not module.tied_to]
        self._kv = {m.name: footprint.module_kv_bytes(m, context_window) for m in self._modules}
        self._activations = footprint.activation_bytes(context_window)

    def best(self) -> Filling | None:
        """The best way; None where nothing fits."""
        ways = [*self._with_gpus(), *self._without_gpu()]
        return min(ways, key=lambda way: way.rank, default=None)

    def _with_gpus(self) -> Iterator[Filling]:
        """For every first GPU, the way that moves the fewest modules off the GPUs."""
        for first in range(len(self._devices.gpus)):
            for offloaded in range(len(self._modules)):
                way = self._offloading(first, offloaded)
                if way is not None:
                    yield way
                    break

    def _offloading(self, first: int, offloaded: int) -> Filling | None:
        kept = self._modules[: len(self._modules) - offloaded]
        moved = self._modules[len(kept) :]
        draft = Draft(self._devices)
        in_ram = _longest_prefix(moved, self._devices.ram.free_bytes - draft.ram_runtime_bytes)
        if in_ram is None or not draft.disk_holds(moved[in_ram:]):
            return None
        if not self._fill_gpus(draft, kept, moved, first):
            return None
        draft.put(moved[:in_ram], Tier.STREAM, "ram")
        draft.put(moved[in_ram:], Tier.DISK, "disk")
        return draft.finish(self._footprint)

    def _fill_gpus(self, draft: Draft, kept: Sequence[Module], moved: Sequence[Module], first: int) -> bool:
        """Put `kept` on the GPUs from `first` on; that one computes the moved ones, too."""
        position = 0
        extra = sum(self._kv[module.name] for module in moved)
        buffer = max((module.plain_bytes for module in moved), default=0)
        for gpu in self._devices.gpus[first:]:
            reserve = self._activations + buffer + GPU_RUNTIME_BYTES
            end = self._fill_gpu(kept, position, gpu.free_bytes - reserve - extra)
            taken = kept[position:end]
            if taken:
                kv = extra + sum(self._kv[module.name] for module in taken)
                draft.put(taken, Tier.GPU, gpu.device, packed=True)
                draft.reserve(gpu.device, kv, self._activations + buffer, GPU_RUNTIME_BYTES)
            elif not position:
                return False
            position, extra, buffer = end, 0, 0
        return position == len(kept)

    def _fill_gpu(self, modules: Sequence[Module], position: int, room: int) -> int:
        while position < len(modules):
            room -= modules[position].bytes + self._kv[modules[position].name]
            if room < 0:
                break
            position += 1
        return position

    def _without_gpu(self) -> Iterator[Filling]:
        """The way that leaves the fewest modules on disk, computed by the CPU.

        Beside modules on disk, bitsandbytes leaves those in RAM unpacked.
        """
        for count in range(len(self._modules), -1, -1):
            draft = Draft(self._devices)
            rest = self._modules[count:]
            buffer = max((module.plain_bytes for module in rest), default=0)
            draft.put(self._modules[:count], Tier.CPU, "ram", packed=not rest)
            draft.put(rest, Tier.DISK, "disk")
            draft.reserve("ram", sum(self._kv.values()), self._activations + buffer, 0)
            if draft.ram_fits() and draft.disk_holds(rest):
                yield draft.finish(self._footprint)
                return

    def shortage(self) -> tuple[DevicePlan, ...]:
        """What RAM and disk would have to hold if every module were to lie on disk."""
        draft = Draft(self._devices)
        draft.put(self._modules, Tier.DISK, "disk")
        buffer = self._activations + self._footprint.largest_bytes
        draft.reserve("ram", sum(self._kv.values()), buffer, 0)
        return draft.finish(self._footprint).devices


def _longest_prefix(modules: Sequence[Module], room: int) -> int | None:
    """How many of the modules fit into `room` bytes in RAM; None where not even nothing does."""
    if room < 0:
        return None
    for count, module in enumerate(modules):
        room -= module.plain_bytes
        if room < 0:
            return count
    return len(modules)


class Draft:
    """A placement in the making."""

    def __init__(self, devices: Devices) -> None:
        """Start with RAM's runtime and nothing else.

        Args:
            devices: the budgets.
        """
        self._devices = devices
        self.ram_runtime_bytes = devices.ram_runtime_bytes
        self._layers: dict[str, LayerPlacement] = {}
        self._reserves = {"ram": (0, 0, devices.ram_runtime_bytes)}
        self._in_place_bytes = 0

    def put(self, modules: Sequence[Module], tier: Tier, device: str, *, packed: bool = False) -> None:
        """Let modules rest on a device, packed or as they are computed."""
        for module in modules:
            size = module.bytes if packed else module.plain_bytes
            self._layers[module.name] = LayerPlacement(name=module.name, bytes=size, tier=tier, device=device)
            if tier is Tier.DISK:
                self._in_place_bytes += module.plain_bytes - module.rewritten_bytes

    def reserve(self, device: str, kv: int, activations: int, runtime: int) -> None:
        """Keep bytes of a device for what is not weights."""
        before = self._reserves.get(device, (0, 0, 0))
        self._reserves[device] = (before[0] + kv, before[1] + activations, before[2] + runtime)

    def ram_fits(self) -> bool:
        """RAM's budget holds what has been put and reserved there."""
        return self._plan(self._devices.ram).predicted_bytes <= self._devices.ram.free_bytes

    def disk_holds(self, modules: Sequence[Module]) -> bool:
        """The disk's budget holds these: all of them where it was given, else what must be rewritten."""
        disk = self._devices.disk
        sizes = (m.plain_bytes if disk.given else m.rewritten_bytes for m in modules)
        return sum(sizes) <= disk.free_bytes

    def _plan(self, budget: Budget) -> DevicePlan:
        kv, activations, runtime = self._reserves.get(budget.device, (0, 0, 0))
        return DevicePlan(
            device=budget.device,
            budget_bytes=budget.free_bytes,
            weight_bytes=sum(item.bytes for item in self._layers.values() if item.device == budget.device),
            kv_bytes=kv,
            activation_bytes=activations,
            runtime_bytes=runtime,
            label=budget.label,
            uuid=budget.uuid,
        )

    def finish(self, footprint: Footprint) -> Filling:
        """Add the tied head beside its embedding, and every device's sums.

        The disk's budget grows by what is read in place, which takes no new space.
        """
        disk = self._devices.disk
        in_place = 0 if disk.given else self._in_place_bytes
        widened = Budget(device="disk", free_bytes=disk.free_bytes + in_place, label=disk.label)
        plans = tuple(self._plan(budget) for budget in (*self._devices.gpus, self._devices.ram, widened))
        return Filling(tuple(self._layer(module) for module in footprint.modules), plans)

    def _layer(self, module: Module) -> LayerPlacement:
        beside = self._layers[module.tied_to or module.name]
        size = 0 if module.tied_to else beside.bytes
        return LayerPlacement(name=module.name, bytes=size, tier=beside.tier, device=beside.device)
