"""What the GPUs of this machine can compute, asked of the driver without torch."""

from __future__ import annotations

import functools
import importlib
from types import ModuleType


@functools.cache
def gpu_capability() -> tuple[int, int] | None:
    """The compute capability of the least able GPU; None where there is none, or the driver does not say."""
    nvml = importlib.import_module("pynvml")
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    try:
        return min(_capabilities(nvml), default=None)
    except nvml.NVMLError:
        return None
    finally:
        nvml.nvmlShutdown()


def _capabilities(nvml: ModuleType) -> list[tuple[int, int]]:
    handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
    pairs = (nvml.nvmlDeviceGetCudaComputeCapability(handle) for handle in handles)
    return [(int(major), int(minor)) for major, minor in pairs]
