"""What a device holds before any weight: libraries, CUDA contexts, workspaces."""

from __future__ import annotations

from engine.values import GpuLimits, MachineLimits

GPU_RUNTIME_BYTES = 700 << 20
"""CUDA context, kernels and library workspaces of one GPU, until it is calibrated."""
RAM_RUNTIME_BYTES = 512 << 20
"""The engine process with its libraries imported, without CUDA."""
CUDA_RAM_BYTES = 1 << 30
"""What CUDA's libraries add to the process in RAM."""


def ram_runtime_bytes(*, has_gpus: bool, limits: MachineLimits) -> int:
    """Bytes of the engine process in RAM before any weight; of a machine never measured, a usual figure.

    Args:
        has_gpus: the plan uses one, so that CUDA is initialised.
        limits: of the machine.
    """
    process = limits.ram_runtime_bytes if limits.measured_at > 0 else RAM_RUNTIME_BYTES
    return process + (CUDA_RAM_BYTES if has_gpus else 0)


def gpu_runtime_bytes(gpu: GpuLimits | None) -> int:
    """Bytes of one GPU before any weight; of one never measured, a usual figure."""
    return gpu.context_bytes if gpu is not None and gpu.is_measured else GPU_RUNTIME_BYTES
