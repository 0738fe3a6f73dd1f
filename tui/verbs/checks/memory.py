"""The memory a model can have: GPUs by NVML, RAM within the cgroup's limit."""

from __future__ import annotations

from engine import GpuReading, MemoryReading, read_memory
from tui.format import format_size, format_used
from tui.verbs.checks.finding import Finding, ok, warn

_LITTLE_RAM = 2 * 2**30


def check_memory() -> list[Finding]:
    """Read the memory once, and judge it."""
    return judge(read_memory())


def judge(reading: MemoryReading) -> list[Finding]:
    """Findings about one reading."""
    gpus = [_gpu(gpu) for gpu in reading.gpus] or [_no_gpu(reading.gpu_note)]
    return [*gpus, _ram(reading)]


def _gpu(gpu: GpuReading) -> Finding:
    name = f"gpu:{gpu.index}"
    if gpu.problem:
        return warn(
            name, f"{gpu.label}: {gpu.problem}.", "Look at `nvidia-smi`; its figures stay empty meanwhile."
        )
    free = format_size(gpu.vram_total - gpu.vram_used)
    return ok(name, f"{gpu.label}, {format_used(gpu.vram_used, gpu.vram_total)} used, {free} free.")


def _no_gpu(note: str) -> Finding:
    found = f"None is visible ({note or 'no reason known'}): models run on the CPU."
    return warn("gpu", found, "If there is one, look at the driver line, and at CUDA_VISIBLE_DEVICES.")


def _ram(reading: MemoryReading) -> Finding:
    ram = reading.ram
    free = ram.total_bytes - ram.ram_used
    bound = "of the machine" if ram.limit == "machine" else f"allowed by {ram.limit}"
    found = f"{format_size(ram.total_bytes)} {bound}, {format_size(free)} free."
    if free < _LITTLE_RAM:
        return warn("ram", found, "Models of more than a billion parameters will be read from the disk.")
    return ok("ram", found)
