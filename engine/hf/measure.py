"""Measures this machine: a few seconds, step by step, so that it can be left between two of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

from engine.backend import Cancelled
from engine.errors import LoadCancelled
from engine.hf.ledger import process_memory
from engine.hf.measure_attention import attention_speed, cache_bandwidth
from engine.hf.measure_clock import Waiting, timed, usual
from engine.hf.measure_disk import copy_bandwidth, disk_speed, scratch_file, tensor_seconds
from engine.hf.measure_gpu import gpu_limits
from engine.hf.measure_linear import CYCLED_BYTES, DTYPES, PACKERS, Speed, name_of, packed_speed, plain_speed
from engine.hf.measure_steps import op_seconds
from engine.plan.kept import scratch_folder
from engine.plan.limits import versions
from engine.values import MachineLimits

T = TypeVar("T")
SLICES = 16


def measured_limits(cancelled: Cancelled, runtime_bytes: int | None = None) -> MachineLimits:
    """Measure everything this process may use.

    Args:
        cancelled: asked between the steps.
        runtime_bytes: of the process before any model; None takes what it holds now.

    Raises:
        LoadCancelled: it was.
    """
    held = process_memory().resident if runtime_bytes is None else runtime_bytes
    return Measurement(cancelled, scratch_folder()).limits(held)


class Measurement:
    """One round of measuring."""

    def __init__(self, cancelled: Cancelled, folder: Path) -> None:
        """Start with nothing measured.

        Args:
            cancelled: asked between the steps.
            folder: for a scratch file.
        """
        self._cancelled = cancelled
        self._folder = folder
        self._speeds: dict[str, Speed] = {}
        self._quantize: dict[str, float] = {}

    def limits(self, runtime_bytes: int) -> MachineLimits:
        """Measure step by step.

        Args:
            runtime_bytes: of the process before any model.
        """
        waiting = Waiting()
        ram = self._linear_speeds()
        for kind in PACKERS:
            self._step(partial(self._pack, kind))
        attention = {name_of(dtype): self._step(partial(attention_speed, dtype)) for dtype in DTYPES}
        with scratch_file(self._folder) as path:
            disk = self._step(lambda: disk_speed(path))
        ops = self._step(lambda: op_seconds(torch.device("cpu")))
        return MachineLimits(
            measured_at=time.time(),
            versions=versions(),
            ram_bandwidth=ram,
            linear_bandwidth={kind: speed.bandwidth for kind, speed in self._speeds.items()},
            linear_seconds={kind: max(0.0, speed.seconds - ops) for kind, speed in self._speeds.items()},
            flops={kind: speed.flops for kind, speed in self._speeds.items()},
            attention_bandwidth={name: speed.bandwidth for name, speed in attention.items()},
            attention_flops={name: speed.flops for name, speed in attention.items()},
            eager_bandwidth={name: speed.eager_bandwidth for name, speed in attention.items()},
            cache_bandwidth=self._step(cache_bandwidth),
            op_seconds=ops,
            disk_bandwidth=disk.direct,
            read_bandwidth=disk.read,
            mapped_bandwidth=disk.mapped,
            cached_bandwidth=disk.cached,
            copy_bandwidth=self._step(copy_bandwidth),
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

    def _linear_speeds(self) -> float:
        """Measure plain layers, in memory that they share, and return RAM's bandwidth."""
        memory = torch.zeros(CYCLED_BYTES, dtype=torch.uint8)
        for dtype in DTYPES:
            name = name_of(dtype)
            self._speeds[name] = self._step(partial(plain_speed, dtype, memory))
            self._speeds[f"{name} columns"] = self._step(partial(plain_speed, dtype, memory, columns=True))
        return self._step(lambda: ram_bandwidth(memory))

    def _pack(self, kind: str) -> None:
        self._speeds[kind], self._quantize[kind] = packed_speed(kind)


def ram_bandwidth(memory: torch.Tensor) -> float:
    """Bytes per second that all threads read from memory that no cache holds."""
    slices = memory.view(torch.int64).view(SLICES, -1)
    return slices[0].nbytes / usual([timed(part.max) for part in (*slices, *slices)])


def _gpus() -> range:
    return range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
