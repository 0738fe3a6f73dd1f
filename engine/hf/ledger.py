"""What the engine holds on each device: weights, KV cache, and the rest of the process."""

from __future__ import annotations

import bisect
import resource
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from engine.hf.heap import mapped_spans
from engine.hf.protocols import CausalModel
from engine.values import DeviceLedger

KIB = 1024
PAGE = resource.getpagesize()


class ProcessMemory(NamedTuple):
    """This process's memory in bytes.

    Attributes:
        resident: all of it, mapped files included.
        anonymous: not backed by a file.
        peak: the highest `resident` so far.
    """

    resident: int
    anonymous: int
    peak: int


class Weights(NamedTuple):
    """Where a loaded model's weights rest.

    Attributes:
        by_device: bytes per "gpu:0", "ram", "disk".
        mapped_bytes: of RAM's, those that are views of the checkpoint's files.
    """

    by_device: dict[str, int]
    mapped_bytes: int


def process_memory() -> ProcessMemory:
    """Read this process's memory from the kernel."""
    _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_text().split())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB
    return ProcessMemory(resident * PAGE, (resident - shared) * PAGE, peak)


def cuda_is_used() -> bool:
    """Say whether torch holds a CUDA context; asking does not create one."""
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]  # torch leaves it unannotated


def device_name(device: torch.device | str | int) -> str:
    """Return the plan's name of a torch device or of a device_map's value."""
    if isinstance(device, int):
        return f"gpu:{device}"
    text = str(device)
    if text.startswith("cuda"):
        return f"gpu:{text.partition(':')[2] or 0}"
    return {"cpu": "ram", "meta": "disk"}.get(text, text)


def count_weights(model: CausalModel, resting: Mapping[str, str], streamed: Collection[str] = ()) -> Weights:
    """Count a loaded model's parameters and buffers, tied ones once.

    Args:
        model: the model; what a hook fetches when it is needed is on the meta device.
        resting: for those, the device per name; "disk" where it has none.
        streamed: names of those that are read from the disk for each forward.
    """
    regions = Regions(mapped_spans())
    by_device: dict[str, int] = {}
    mapped = 0
    for name, tensor in _distinct_tensors(model):
        device = resting.get(name, "disk") if tensor.is_meta else device_name(tensor.device)
        device = "disk" if name in streamed else device
        by_device[device] = by_device.get(device, 0) + tensor.nbytes
        if device == "ram" and not tensor.is_meta and regions.hold(tensor.data_ptr()):
            mapped += tensor.nbytes
    return Weights(by_device, mapped)


def _distinct_tensors(model: CausalModel) -> Iterator[tuple[str, torch.Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


class Regions:
    """The address ranges of mapped safetensors files."""

    def __init__(self, ranges: list[tuple[int, int]]) -> None:
        """Take (first, end) addresses, ascending."""
        self._starts = [start for start, _ in ranges]
        self._ends = [end for _, end in ranges]

    def hold(self, address: int) -> bool:
        """Say whether the address lies in one of them."""
        at = bisect.bisect_right(self._starts, address) - 1
        return at >= 0 and address < self._ends[at]


def ledgers(weights: Weights, kv_bytes: Mapping[torch.device, int]) -> tuple[DeviceLedger, ...]:
    """Return one entry per device that holds anything.

    `other_bytes` of RAM is the process's anonymous memory beyond weights and KV; of a GPU, what
    torch has reserved beyond them.
    """
    kv = {device_name(device): size for device, size in kv_bytes.items()}
    names = sorted({"ram", *weights.by_device, *kv})
    return tuple(_ledger(name, weights, kv.get(name, 0)) for name in names)


def _ledger(name: str, weights: Weights, kv_bytes: int) -> DeviceLedger:
    weight_bytes = weights.by_device.get(name, 0)
    other = 0
    if name == "ram":
        other = process_memory().anonymous - kv_bytes - (weight_bytes - weights.mapped_bytes)
    elif name.startswith("gpu:"):
        other = torch.cuda.memory_reserved(int(name[4:])) - kv_bytes - weight_bytes
    return DeviceLedger(
        device=name,
        weight_bytes=weight_bytes,
        kv_bytes=kv_bytes,
        other_bytes=max(0, other),
        uuid=gpu_uuid(name),
    )


def gpu_uuid(name: str) -> str:
    """Return NVML's name of a GPU in torch's order; empty for other devices."""
    if not name.startswith("gpu:"):
        return ""
    return f"GPU-{torch.cuda.get_device_properties(int(name[4:])).uuid}"


def peak_vram() -> int:
    """Return torch's highest allocation over all GPUs, in bytes; 0 without CUDA."""
    if not cuda_is_used():
        return 0
    return sum(torch.cuda.max_memory_allocated(index) for index in range(torch.cuda.device_count()))
