"""Measures this machine: a few seconds, step by step, so that it can be left between two of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch

from engine.backend import Cancelled
from engine.errors import LoadCancelled
from engine.hf.ledger import process_memory
from engine.hf.measure_attention import AttentionSpeed, attention_speed, cache_bandwidth
from engine.hf.measure_clock import Waiting, middle, timed, usual
from engine.hf.measure_disk import DiskSpeed, copy_bandwidth, disk_speed, scratch_file, tensor_seconds
from engine.hf.measure_gpu import gpu_limits
from engine.hf.measure_linear import (
    CYCLED_BYTES,
    DTYPES,
    PACKERS,
    PackedLayers,
    Speed,
    name_of,
    packed_layers,
    packed_speed,
    plain_speed,
)
from engine.hf.measure_native import NO_KERNELS, NativeSpeed, native_speed
from engine.hf.measure_steps import SmallSteps
from engine.hf.native.library import Kernels
from engine.hf.packing import quick_packing
from engine.plan.kept import scratch_folder
from engine.plan.limits import versions
from engine.values import MachineLimits

T = TypeVar("T")
SLICES = 16
ROUNDS = 5


def measured_limits(
    cancelled: Cancelled, runtime_bytes: int | None = None, kernels: Kernels | None = None
) -> MachineLimits:
    """Measure everything this process may use.

    Args:
        cancelled: asked between the steps.
        runtime_bytes: of the process before any model; None takes what it holds now.
        kernels: our own, where they can be had.

    Raises:
        LoadCancelled: it was.
    """
    held = process_memory().resident if runtime_bytes is None else runtime_bytes
    return Measurement(cancelled, scratch_folder(), kernels).limits(held)


class Speeds(NamedTuple):
    """What one round told of memory and arithmetic.

    Attributes:
        ram: bytes per second read.
        linear: layers, by how their weights are stored.
        native: our own kernels.
        attention: by dtype.
        cache: KV bytes per second that appending copies.
        disk: reading, each way.
        copy: bytes per second to memory that was not touched yet.
        ops: seconds of a dispatched operation.
    """

    ram: float
    linear: dict[str, Speed]
    native: NativeSpeed
    attention: dict[str, AttentionSpeed]
    cache: float
    disk: DiskSpeed
    copy: float
    ops: float


class Measurement:
    """Measures in rounds; what counts is the median of each figure."""

    def __init__(self, cancelled: Cancelled, folder: Path, kernels: Kernels | None) -> None:
        """Start with nothing measured.

        Args:
            cancelled: asked between the steps.
            folder: for a scratch file.
            kernels: our own; None where they cannot be had.
        """
        self._cancelled = cancelled
        self._kernels = kernels
        self._folder = folder
        self._quantize: dict[str, float] = {}

    def limits(self, runtime_bytes: int) -> MachineLimits:
        """Measure step by step.

        Args:
            runtime_bytes: of the process before any model.
        """
        waiting = Waiting()
        memory = torch.zeros(CYCLED_BYTES, dtype=torch.uint8)
        layers = {kind: self._step(partial(self._pack, kind)) for kind in PACKERS}
        steps = self._step(lambda: SmallSteps(torch.device("cpu")))
        with scratch_file(self._folder) as path:
            speeds = middle([self._round(memory, layers, path, steps) for _ in range(ROUNDS)])
        disk, ops = speeds.disk, speeds.ops
        return MachineLimits(
            measured_at=time.time(),
            versions=versions(),
            ram_bandwidth=speeds.ram,
            linear_bandwidth={kind: speed.bandwidth for kind, speed in speeds.linear.items()},
            linear_seconds={kind: max(0.0, speed.seconds - ops) for kind, speed in speeds.linear.items()},
            flops={kind: speed.flops for kind, speed in speeds.linear.items()},
            attention_bandwidth={name: speed.bandwidth for name, speed in speeds.attention.items()},
            attention_flops={name: speed.flops for name, speed in speeds.attention.items()},
            eager_bandwidth={name: speed.eager_bandwidth for name, speed in speeds.attention.items()},
            cache_bandwidth=speeds.cache,
            op_seconds=ops,
            native_bandwidth=speeds.native.bandwidth,
            native_attention_bandwidth=speeds.native.attention_bandwidth,
            native_op_seconds=speeds.native.op_seconds,
            disk_bandwidth=disk.direct,
            read_bandwidth=disk.read,
            mapped_bandwidth=disk.mapped,
            cached_bandwidth=disk.cached,
            copy_bandwidth=speeds.copy,
            tensor_seconds=self._step(lambda: tensor_seconds(self._folder)),
            quantize_bandwidth=self._quantize,
            ram_runtime_bytes=runtime_bytes,
            waited_share=waiting.share(),
            gpus=tuple(self._step(partial(gpu_limits, index)) for index in _gpus()),
        )

    def _step(self, call: Callable[[], T]) -> T:
        if self._cancelled():
            raise LoadCancelled("Measuring was stopped.", "")
        return call()

    def _round(
        self, memory: torch.Tensor, layers: dict[str, PackedLayers], file: Path, steps: SmallSteps
    ) -> Speeds:
        """Measure once what depends on how fast memory, disk and cores are just now.

        Args:
            memory: that plain weights lie in, one dtype after the other.
            layers: packed ones.
            file: to read.
            steps: of a small model.
        """
        linear: dict[str, Speed] = {}
        for dtype in DTYPES:
            name = name_of(dtype)
            linear[name] = self._step(partial(plain_speed, dtype, memory))
            linear[f"{name} columns"] = self._step(partial(plain_speed, dtype, memory, columns=True))
        for kind, packed in layers.items():
            linear[kind] = self._step(partial(packed_speed, packed, self._kernels))
        kernels = self._kernels
        return Speeds(
            self._step(lambda: ram_bandwidth(memory)),
            linear,
            self._step(lambda: native_speed(kernels, memory, layers) if kernels else NO_KERNELS),
            {name_of(dtype): self._step(partial(attention_speed, dtype)) for dtype in DTYPES},
            self._step(cache_bandwidth),
            self._step(partial(disk_speed, file)),
            self._step(copy_bandwidth),
            self._step(steps.op_seconds),
        )

    def _pack(self, kind: str) -> PackedLayers:
        with quick_packing(self._kernels):
            packed, self._quantize[kind] = packed_layers(kind)
        return packed


def ram_bandwidth(memory: torch.Tensor) -> float:
    """Bytes per second that all threads read from memory that no cache holds."""
    slices = memory.view(torch.int64).view(SLICES, -1)
    return slices[0].nbytes / usual([timed(part.max) for part in (*slices, *slices)])


def _gpus() -> range:
    return range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
