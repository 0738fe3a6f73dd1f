"""One way to place every module, in the making and made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from engine.plan.devices import Devices
from engine.plan.footprint import Footprint
from engine.plan.module import Module
from engine.plan.need import Need
from engine.values import Budget, DevicePlan, Fits, LayerPlacement, Tier


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
    def moved_bytes(self) -> int:
        """Bytes that lie off the GPUs."""
        return sum(layer.bytes for layer in self.layers if layer.tier is not Tier.GPU)

    def of(self, device: str) -> DevicePlan:
        """What one device will hold."""
        return next(plan for plan in self.devices if plan.device == device)


class Draft:
    """A placement in the making."""

    def __init__(self, footprint: Footprint, devices: Devices, *, has_gpus: bool) -> None:
        """Start with RAM's runtime and nothing else.

        Args:
            footprint: what the model needs.
            devices: the budgets.
            has_gpus: some GPU takes part.
        """
        self._footprint = footprint
        self._devices = devices
        self._layers: dict[str, LayerPlacement] = {}
        self._weights: dict[str, int] = {}
        self._reserves = {"ram": (0, 0, devices.ram_runtime_bytes(has_gpus=has_gpus))}
        self._in_place_bytes = 0

    def put(self, modules: Iterable[Module], tier: Tier, device: str, *, packed: bool = False) -> None:
        """Let modules rest on a device, packed or as they are computed."""
        for module in modules:
            size = module.bytes if packed else module.plain_bytes
            self._layers[module.name] = LayerPlacement(name=module.name, bytes=size, tier=tier, device=device)
            self._weights[device] = self._weights.get(device, 0) + size
            if tier is Tier.DISK:
                self._in_place_bytes += module.plain_bytes - module.rewritten_bytes

    def reserve(self, device: str, kv: int, activations: int, runtime: int = 0) -> None:
        """Keep bytes of a device for what is not weights."""
        before = self._reserves.get(device, (0, 0, 0))
        self._reserves[device] = (before[0] + kv, before[1] + activations, before[2] + runtime)

    def reserve_gpu(self, device: str, need: Need, modules: Iterable[Module]) -> None:
        """Keep what a GPU holds beside the modules that rest on it."""
        kv = sum(need.kv[module.name] for module in modules)
        self.reserve(device, kv, need.gpu_activation_bytes, self._devices.gpu_runtime_bytes(device))

    def finish(self) -> Filling:
        """Add the tied head beside its embedding, and every device's sums.

        The disk's budget grows by what is read in place, which takes no new space.
        """
        disk = self._devices.disk
        in_place = 0 if disk.given else self._in_place_bytes
        widened = Budget(device="disk", free_bytes=disk.free_bytes + in_place, label=disk.label)
        plans = tuple(self._plan(budget) for budget in (*self._devices.gpus, self._devices.ram, widened))
        return Filling(tuple(self._layer(module) for module in self._footprint.modules), plans)

    def _plan(self, budget: Budget) -> DevicePlan:
        kv, activations, runtime = self._reserves.get(budget.device, (0, 0, 0))
        return DevicePlan(
            device=budget.device,
            budget_bytes=budget.free_bytes,
            weight_bytes=self._weights.get(budget.device, 0),
            kv_bytes=kv,
            activation_bytes=activations,
            runtime_bytes=runtime,
            label=budget.label,
            uuid=budget.uuid,
        )

    def _layer(self, module: Module) -> LayerPlacement:
        beside = self._layers[module.tied_to or module.name]
        if not module.tied_to:
            return beside
        return LayerPlacement(name=module.name, bytes=0, tier=beside.tier, device=beside.device)


def disk_need(modules: Iterable[Module], disk: Budget) -> int:
    """Bytes that modules take of a disk's budget: all where it was given, else what must be rewritten."""
    return sum(module.plain_bytes if disk.given else module.rewritten_bytes for module in modules)
