"""The budgets by kind, with what this machine can do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from engine.plan.runtime import gpu_runtime_bytes, ram_runtime_bytes
from engine.values import Budget, GpuLimits, MachineLimits

_SAME_SPEED = 1.05


class Devices(NamedTuple):
    """What a plan may use.

    Attributes:
        gpus: in CUDA's order; may be empty.
        ram: of the machine or the cgroup.
        disk: of the offload folder.
        limits: of the machine, with its GPUs by their budgets' names.
    """

    gpus: tuple[Budget, ...]
    ram: Budget
    disk: Budget
    limits: MachineLimits

    def ram_runtime_bytes(self, *, has_gpus: bool) -> int:
        """What the engine process takes in RAM before any weight."""
        return ram_runtime_bytes(has_gpus=has_gpus, limits=self.limits)

    def gpu_runtime_bytes(self, device: str) -> int:
        """What a GPU holds before any weight."""
        return gpu_runtime_bytes(self._gpu(device))

    def fastest_first(self) -> tuple[Budget, ...]:
        """The GPUs by VRAM bandwidth; equally fast ones in CUDA's order."""
        return tuple(sorted(self.gpus, key=lambda gpu: -self._bandwidth(gpu)))

    def are_alike(self) -> bool:
        """All GPUs are about equally fast."""
        speeds = [self._bandwidth(gpu) for gpu in self.gpus]
        return not speeds or max(speeds) <= _SAME_SPEED * min(speeds)

    def _bandwidth(self, budget: Budget) -> float:
        gpu = self._gpu(budget.device)
        return gpu.vram_bandwidth if gpu else 1.0

    def _gpu(self, device: str) -> GpuLimits | None:
        return next((gpu for gpu in self.limits.gpus if gpu.device == device), None)


def by_kind(budgets: Iterable[Budget], limits: MachineLimits) -> Devices:
    """Sort budgets by kind; without one for RAM or disk, that gives nothing."""
    named = {budget.device: budget for budget in budgets}
    gpus = tuple(budget for device, budget in named.items() if device.startswith("gpu:"))
    nothing = Budget(device="ram", free_bytes=0)
    no_disk = Budget(device="disk", free_bytes=0, given=True)
    return Devices(gpus, named.get("ram", nothing), named.get("disk", no_disk), limits)
