"""NVML, asked for memory only; every failing call becomes a sentence."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterable
from types import ModuleType
from typing import Any, NamedTuple

import psutil

from engine.readings import GpuReading
from engine.visible import visible_gpus

NO_DRIVER = "no NVIDIA driver"
_LABEL_NOISE = re.compile(
    r"\b(NVIDIA|Tesla|GeForce|Graphics|Device|PCIe|SXM\d?|HBM\d\w*)\b|\d+\s?GB", re.IGNORECASE
)


class GpuState(NamedTuple):
    """All GPUs at one moment.

    Attributes:
        gpus: those CUDA will use, in its order.
        note: why there are none, or some are missing; empty when all is well.
    """

    gpus: tuple[GpuReading, ...]
    note: str = ""


class _Device(NamedTuple):
    handle: Any = None
    uuid: str = ""
    label: str = "GPU"
    problem: str = ""


class Nvml:
    """One connection to the driver's library; not for two threads at once."""

    def __init__(self) -> None:
        """Prepare; the library is loaded at the first reading."""
        self._nvml: ModuleType | None = None
        self._devices: tuple[_Device, ...] = ()

    def read(self, pid: int | None) -> GpuState:
        """The visible GPUs' memory now.

        Args:
            pid: the engine's process, whose use is told apart; None while there is none.
        """
        nvml = importlib.import_module("pynvml")
        try:
            self._connect(nvml)
        except (nvml.NVMLError, UnicodeError) as error:
            self.disconnect()
            return GpuState((), _cause(nvml, error))
        visible = visible_gpus([device.uuid for device in self._devices], os.environ)
        own = _family(pid)
        gpus = tuple(self._reading(nvml, place, index, own) for place, index in enumerate(visible.indices))
        if any(gpu.problem for gpu in gpus):
            self.disconnect()
        return GpuState(gpus, visible.note)

    def disconnect(self) -> None:
        """Forget the connection, so that the next reading makes a new one."""
        nvml, self._nvml, self._devices = self._nvml, None, ()
        if nvml is not None:
            try:
                nvml.nvmlShutdown()
            except nvml.NVMLError:
                return

    def _connect(self, nvml: ModuleType) -> None:
        if self._nvml is not None:
            return
        nvml.nvmlInit()
        self._nvml = nvml
        self._devices = tuple(_device(nvml, index) for index in range(nvml.nvmlDeviceGetCount()))

    def _reading(self, nvml: ModuleType, place: int, index: int, own: frozenset[int]) -> GpuReading:
        device = self._devices[index]
        memory, problem = _memory(nvml, device)
        if problem:
            return GpuReading(index=place, uuid=device.uuid, label=device.label, problem=problem)
        own_bytes = _own_bytes(nvml, device.handle, own)
        used = min(int(memory.used), int(memory.total))
        return GpuReading(
            index=place,
            uuid=device.uuid,
            label=device.label,
            vram_total=int(memory.total),
            vram_used=used,
            own_bytes=None if own_bytes is None else min(own_bytes, used),
            others_bytes=max(0, used - (own_bytes or 0)),
        )


def _device(nvml: ModuleType, index: int) -> _Device:
    """One GPU; a lost one keeps its number and says why."""
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        return _Device(handle, str(nvml.nvmlDeviceGetUUID(handle)), _label(nvml, handle))
    except (nvml.NVMLError, UnicodeError) as error:
        return _Device(problem=_cause(nvml, error))


def _memory(nvml: ModuleType, device: _Device) -> tuple[Any, str]:
    if device.problem:
        return None, device.problem
    try:
        return nvml.nvmlDeviceGetMemoryInfo(device.handle), ""
    except nvml.NVMLError as error:
        return None, _cause(nvml, error)


def _label(nvml: ModuleType, handle: object) -> str:
    try:
        name = str(nvml.nvmlDeviceGetName(handle))
    except (nvml.NVMLError, UnicodeError):
        return "GPU"
    return " ".join(_LABEL_NOISE.sub(" ", name).replace("-", " ").split()) or name


def _cause(nvml: ModuleType, error: Exception) -> str:
    code = getattr(error, "value", None)
    if code in {nvml.NVML_ERROR_LIBRARY_NOT_FOUND, nvml.NVML_ERROR_DRIVER_NOT_LOADED}:
        return NO_DRIVER
    return f"n/a ({error})"


def _own_bytes(nvml: ModuleType, handle: object, own: frozenset[int]) -> int | None:
    """Bytes of the engine's processes; None where the driver does not say.

    Inside a container the driver may name processes by numbers of the host, none of which exist here.
    """
    try:
        processes = nvml.nvmlDeviceGetComputeRunningProcesses_v3(handle)
    except nvml.NVMLError:
        return None
    mine = [process.usedGpuMemory for process in processes if process.pid in own]
    if not mine and processes and not _any_exists(process.pid for process in processes):
        return None
    return None if None in mine else sum(mine)


def _any_exists(pids: Iterable[int]) -> bool:
    return any(psutil.pid_exists(pid) for pid in pids)


def _family(pid: int | None) -> frozenset[int]:
    """A process and its descendants; of other processes only the parent's number is read."""
    if pid is None:
        return frozenset()
    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return frozenset({pid})
    return frozenset({pid, *(child.pid for child in children)})
