"""How much each device may give: what is free now, within what the person allows."""

from __future__ import annotations

import shutil
from pathlib import Path

from engine.memory import MemoryReading, read_memory
from engine.offload import parent_folder
from engine.values import Budget, BudgetRequest

RAM_RESERVE_BYTES = 256 << 20
"""Left to the rest of the machine."""
_GPU_RESERVE_BYTES = 256 << 20
"""Left to the driver's own growth and to rounding by the allocator."""
_DISK_MARGIN = 1.05


def live_budgets(request: BudgetRequest, reading: MemoryReading | None = None) -> tuple[Budget, ...]:
    """One budget per GPU, one for RAM, one for disk.

    A given figure lowers the live one. One for a GPU that this machine does not have makes an
    imaginary GPU, for planning only.

    Args:
        request: what the person allows.
        reading: of this machine's memory; None reads it now.
    """
    reading = reading or read_memory()
    return (*_gpu_budgets(request, reading), _ram_budget(request, reading), _disk_budget(request))


def _gpu_budgets(request: BudgetRequest, reading: MemoryReading) -> list[Budget]:
    caps = dict(request.gpu)
    budgets = [
        Budget(
            device=f"gpu:{gpu.index}",
            free_bytes=_capped(gpu.vram_total - gpu.vram_used - _GPU_RESERVE_BYTES, caps.get(gpu.index)),
            total_bytes=gpu.vram_total,
            uuid=gpu.uuid,
            label=f"GPU {gpu.index} {gpu.label}",
            given=gpu.index in caps,
        )
        for gpu in reading.gpus
        if not gpu.problem
    ]
    real = {gpu.index for gpu in reading.gpus}
    imagined = (
        Budget(device=f"gpu:{index}", free_bytes=cap, total_bytes=cap, label=f"GPU {index}", given=True)
        for index, cap in sorted(caps.items())
        if index not in real
    )
    return [*budgets, *imagined]


def _ram_budget(request: BudgetRequest, reading: MemoryReading) -> Budget:
    ram = reading.ram
    return Budget(
        device="ram",
        free_bytes=_capped(ram.total_bytes - ram.ram_used - RAM_RESERVE_BYTES, request.ram_bytes),
        total_bytes=ram.total_bytes,
        label="RAM (cgroup)" if ram.limit.startswith("cgroup") else "RAM",
        given=request.ram_bytes is not None,
    )


def _disk_budget(request: BudgetRequest) -> Budget:
    place = next(folder for folder in _with_parents(parent_folder(request)) if folder.is_dir())
    usage = shutil.disk_usage(place)
    return Budget(
        device="disk",
        free_bytes=_capped(int(usage.free / _DISK_MARGIN), request.disk_bytes),
        total_bytes=usage.total,
        label="disk",
        given=request.disk_bytes is not None,
    )


def _with_parents(folder: Path) -> tuple[Path, ...]:
    absolute = folder.absolute()
    return (absolute, *absolute.parents)


def _capped(free: int, cap: int | None) -> int:
    return max(0, free if cap is None else min(free, cap))
