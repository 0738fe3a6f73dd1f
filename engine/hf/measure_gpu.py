"""What a GPU can do: its memory, the way to it from RAM, its products, and what its context takes."""

from __future__ import annotations

from collections.abc import Callable

import torch

from engine.hf.ledger import gpu_uuid
from engine.hf.measure_clock import until
from engine.hf.measure_linear import DTYPES, name_of
from engine.hf.measure_steps import SmallSteps
from engine.memory import read_memory
from engine.values import GpuLimits

VRAM_BYTES = 1 << 30
LINK_BYTES = 128 << 20
SIDE = 4096
SECONDS = 0.2
MOST = 10


def gpu_limits(index: int) -> GpuLimits:
    """Measure one GPU in torch's order; its first use in this process tells what its context takes."""
    device, uuid = torch.device("cuda", index), gpu_uuid(f"gpu:{index}")
    before = _vram_used(uuid)
    flops = {name_of(dtype): _flops(device, dtype) for dtype in DTYPES}
    torch.cuda.empty_cache()
    context = _vram_used(uuid) - before
    return GpuLimits(
        uuid=uuid,
        label=torch.cuda.get_device_name(index),
        vram_bandwidth=_vram_bandwidth(device),
        link_bandwidth=_link_bandwidth(device),
        flops=flops,
        op_seconds=SmallSteps(device).op_seconds(),
        context_bytes=max(0, context),
        is_measured=True,
    )


def _vram_used(uuid: str) -> int:
    """Bytes in use on the whole device, as NVML counts them."""
    return next((gpu.vram_used for gpu in read_memory().gpus if gpu.uuid == uuid), 0)


def _seconds(device: torch.device, call: Callable[[], object]) -> float:
    """Seconds of one call with the wait for its end; the first one only warms up."""

    def finished() -> None:
        call()
        torch.cuda.synchronize(device)

    finished()
    return until(SECONDS, MOST, finished)


def _vram_bandwidth(device: torch.device) -> float:
    size = min(VRAM_BYTES, torch.cuda.get_device_properties(device).total_memory // 16)
    numbers = torch.ones(size // 4, device=device)
    return float(numbers.nbytes / _seconds(device, numbers.sum))


def _link_bandwidth(device: torch.device) -> float:
    """Of pageable memory, as loaders copy it."""
    numbers = torch.ones(LINK_BYTES // 4)
    return numbers.nbytes / _seconds(device, lambda: numbers.to(device))


def _flops(device: torch.device, dtype: torch.dtype) -> float:
    left = torch.ones((SIDE, SIDE), device=device, dtype=dtype)
    return 2 * SIDE**3 / _seconds(device, lambda: left @ left)
