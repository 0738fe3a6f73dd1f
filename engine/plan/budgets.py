"""How much each device may give: what is free now, within what the person allows."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from engine.memory import GpuReading, MemoryReading, read_memory
from engine.offload import parent_folder
from engine.values import Budget, BudgetRequest, DeviceLedger

RAM_RESERVE_BYTES = 256 << 20
"""Left to the rest of the machine."""
GPU_RESERVE_BYTES = 256 << 20
"""Left to the driver's own growth and to rounding by the allocator."""
_DISK_MARGIN = 1.05


def live_budgets(
    request: BudgetRequest, reading: MemoryReading | None = None, own: Iterable[DeviceLedger] = ()
) -> tuple[Budget, ...]:
    """One budget per GPU, one for RAM, one for disk.

    What the engine holds now counts as free: a new model takes its place. A given figure lowers the
    live one; 0 leaves a GPU out. One for a GPU that this machine does not have makes an imaginary GPU,
    for planning only, on a machine whose RAM and disk are as they were given.

    Args:
        request: what the person allows.
        reading: of this machine's memory, with the engine's process where that is known; None reads it now.
        own: what the engine's present model holds.
    """
    reading = reading or read_memory()
    held = tuple(own)
    gpus = [_gpu_budget(gpu, request, held) for gpu in reading.gpus if not gpu.problem]
    imagined = _imagined(request, reading)
    return (
        *(gpu for gpu in (*gpus, *imagined) if gpu.asked_bytes != 0),
        _ram_budget(request, reading, held, is_imagined=bool(imagined)),
        _disk_budget(request, is_imagined=bool(imagined)),
    )


def _gpu_budget(gpu: GpuReading, request: BudgetRequest, own: tuple[DeviceLedger, ...]) -> Budget:
    cap = dict(request.gpu).get(gpu.index)
    ledgers = (ledger for ledger in own if ledger.uuid == gpu.uuid)
    held = sum(ledger.weight_bytes + ledger.kv_bytes + ledger.other_bytes for ledger in ledgers)
    others = gpu.vram_used - min(gpu.vram_used, max(held, gpu.own_bytes or 0))
    return Budget(
        device=f"gpu:{gpu.index}",
        free_bytes=_capped(gpu.vram_total - others - GPU_RESERVE_BYTES, cap),
        total_bytes=gpu.vram_total,
        uuid=gpu.uuid,
        label=f"GPU {gpu.index} {gpu.label}",
        given=cap is not None,
        asked_bytes=cap,
    )


def _imagined(request: BudgetRequest, reading: MemoryReading) -> list[Budget]:
    real = {gpu.index for gpu in reading.gpus}
    return [
        Budget(
            device=f"gpu:{index}",
            free_bytes=cap,
            total_bytes=cap,
            label=f"GPU {index}",
            given=True,
            asked_bytes=cap,
        )
        for index, cap in sorted(dict(request.gpu).items())
        if index not in real
    ]


def _ram_budget(
    request: BudgetRequest, reading: MemoryReading, own: tuple[DeviceLedger, ...], *, is_imagined: bool
) -> Budget:
    ram, cap = reading.ram, request.ram_bytes
    # Mapped weights are page cache, which counts as free already; only the rest comes back.
    held = sum(ledger.kv_bytes + ledger.other_bytes for ledger in own if ledger.device == "ram")
    others = ram.ram_used - min(ram.ram_used, ram.engine_anonymous_bytes or held)
    free = _capped(ram.total_bytes - others - RAM_RESERVE_BYTES, cap)
    return Budget(
        device="ram",
        free_bytes=cap if is_imagined and cap is not None else free,
        total_bytes=ram.total_bytes,
        label="RAM (cgroup)" if ram.limit.startswith("cgroup") else "RAM",
        given=cap is not None,
        asked_bytes=cap,
    )


def _disk_budget(request: BudgetRequest, *, is_imagined: bool) -> Budget:
    place = next(folder for folder in _with_parents(parent_folder(request)) if folder.is_dir())
    usage, cap = shutil.disk_usage(place), request.disk_bytes
    free = _capped(int(usage.free / _DISK_MARGIN), cap)
    return Budget(
        device="disk",
        free_bytes=cap if is_imagined and cap is not None else free,
        total_bytes=usage.total,
        label="disk",
        given=cap is not None,
        asked_bytes=cap,
    )


def _with_parents(folder: Path) -> tuple[Path, ...]:
    absolute = folder.absolute()
    return (absolute, *absolute.parents)


def _capped(free: int, cap: int | None) -> int:
    return max(0, free if cap is None else min(free, cap))
