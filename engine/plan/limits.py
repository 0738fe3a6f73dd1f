"""This machine's limits: measured ones kept between runs, typical ones in their place."""

from __future__ import annotations

import hashlib
import math
import os
import platform
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

import msgspec

from engine.plan.kept import keep_ratios, keep_value, kept_ratios, kept_value, scratch_folder
from engine.ram import read_ram
from engine.readings import RamReading
from engine.values import Budget, GpuLimits, MachineLimits

FORMAT = 3
"""Of the measurement: a kept one of another number is not comparable."""
LIBRARIES = ("torch", "transformers", "accelerate", "bitsandbytes")
_GIB = 1 << 30
_GB = 1e9
_TERA = 1e12


def machine_limits(budgets: Iterable[Budget] = (), ram: RamReading | None = None) -> MachineLimits:
    """This machine's measured limits, or typical ones, with one entry per GPU of the budgets.

    A GPU is found again by its uuid; one that was never measured, or is only planned for, gets
    typical figures of its size.

    Args:
        budgets: of the devices.
        ram: with the engine's process where that is known; None reads it now, without one.
    """
    limits = kept_limits() or typical_limits()
    known = {gpu.uuid: gpu for gpu in limits.gpus if gpu.uuid}
    gpus = tuple(_gpu_of(budget, known) for budget in budgets if budget.device.startswith("gpu:"))
    return msgspec.structs.replace(
        limits, gpus=gpus, page_cache_bytes=_free_ram(ram or read_ram()), learned=kept_ratios(machine_key())
    )


def _gpu_of(budget: Budget, known: dict[str, GpuLimits]) -> GpuLimits:
    gpu = known.get(budget.uuid) or typical_gpu(budget.total_bytes or budget.free_bytes)
    return msgspec.structs.replace(gpu, device=budget.device, uuid=budget.uuid)


def _free_ram(ram: RamReading) -> int:
    """What the engine holds itself is counted as free: it is part of what the next model needs."""
    return ram.total_bytes - ram.ram_used + ram.engine_anonymous_bytes


def typical_limits() -> MachineLimits:
    """Figures of an ordinary machine, for one that was never measured."""
    by_dtype = {"bfloat16": 12 * _GB, "float16": 10 * _GB, "float32": 16 * _GB}
    columns = {f"{dtype} columns": speed / 2 for dtype, speed in by_dtype.items()}
    flops = {"bfloat16": 0.4 * _TERA, "float16": 0.1 * _TERA, "float32": 0.2 * _TERA}
    return MachineLimits(
        ram_bandwidth=25 * _GB,
        linear_bandwidth={**by_dtype, **columns, "int8": 10 * _GB, "nf4": 5 * _GB},
        linear_seconds={"int8": 90e-6, "nf4": 40e-6},
        flops={**flops, "int8": 0.3 * _TERA, "nf4": 0.3 * _TERA},
        attention_bandwidth={"bfloat16": 5 * _GB, "float16": 4 * _GB, "float32": 20 * _GB},
        attention_flops={"bfloat16": 5 * _GB, "float16": 4 * _GB, "float32": 20 * _GB},
        eager_bandwidth={"bfloat16": 10 * _GB, "float16": 5 * _GB, "float32": 15 * _GB},
        cache_bandwidth=10 * _GB,
        op_seconds=5e-6,
        disk_bandwidth=2 * _GB,
        read_bandwidth=1.5 * _GB,
        mapped_bandwidth=1 * _GB,
        cached_bandwidth=10 * _GB,
        copy_bandwidth=2 * _GB,
        tensor_seconds=0.3e-3,
        quantize_bandwidth={"int8": 0.25 * _GB, "nf4": 0.1 * _GB},
        ram_runtime_bytes=512 << 20,
    )


_TYPICAL_GPUS = (
    (20 * _GIB, 300 * _GB, 6 * _GB, 40 * _TERA),
    (36 * _GIB, 900 * _GB, 10 * _GB, 120 * _TERA),
    (100 * _GIB, 1_900 * _GB, 12 * _GB, 300 * _TERA),
    (math.inf, 4_800 * _GB, 20 * _GB, 700 * _TERA),
)
"""(smaller than, VRAM bandwidth, pageable link, FLOP/s at 16 bit)"""


def typical_gpu(total_bytes: int) -> GpuLimits:
    """Figures of an ordinary GPU of a size: that of a T4, of an RTX 3090, of an A100, or of an H200."""
    _, vram, link, flops = next(row for row in _TYPICAL_GPUS if total_bytes < row[0])
    return GpuLimits(
        vram_bandwidth=vram,
        link_bandwidth=link,
        flops={"bfloat16": flops, "float16": flops, "float32": flops / 8},
        op_seconds=6e-6,
        context_bytes=500 << 20,
    )


def kept_limits() -> MachineLimits | None:
    """What this machine measured with these libraries; None where it has not, or the file is damaged."""
    limits = kept_value(_limits_file(), MachineLimits)
    return limits if limits and limits.versions == versions() and _are_sound(limits) else None


def known_runtime() -> int:
    """Bytes of an engine process before any model: as measured here before, or a usual figure."""
    return (kept_limits() or typical_limits()).ram_runtime_bytes


def keep_limits(limits: MachineLimits) -> None:
    """Keep what was measured for later runs; without a place to write to, it is measured again then.

    What was learned corrects the figures before, not these.
    """
    keep_value(_limits_file(), limits)
    if kept_ratios(machine_key()):
        keep_ratios(machine_key(), {})


def versions() -> str:
    """Of the libraries that set the speed, and of this measurement."""
    return " ".join([*(f"{name} {_version(name)}" for name in LIBRARIES), f"measurement {FORMAT}"])


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "none"


def machine_key() -> str:
    """Names this machine, what of it this process may use, and the libraries."""
    machine = f"{platform.node()} {_processor()} {len(os.sched_getaffinity(0))} {versions()}"
    return hashlib.sha256(machine.encode()).hexdigest()[:16]


def _limits_file() -> Path:
    return scratch_folder() / f"limits-{machine_key()}.json"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith("model name")), platform.processor())


def _are_sound(limits: MachineLimits) -> bool:
    """Every rate can be divided by, and no time is negative."""
    return all(_is_sound(name, figure) for name, figure in _figures(limits))


def _is_sound(name: str, figure: float) -> bool:
    may_be_none = name.endswith(("_seconds", "_share"))
    return math.isfinite(figure) and (figure >= 0 if may_be_none else figure > 0)


def _figures(value: MachineLimits | GpuLimits) -> Iterator[tuple[str, float]]:
    for name, figure in msgspec.structs.asdict(value).items():
        if isinstance(figure, dict):
            yield from ((name, speed) for speed in figure.values())
        elif isinstance(figure, float):
            yield name, figure
        elif isinstance(figure, tuple):
            for gpu in figure:
                yield from _figures(gpu)
