"""A fake libnvidia-ml, compiled by the tests that need one."""

from __future__ import annotations

import ctypes
import importlib
import shutil
import subprocess
from pathlib import Path

import pytest

CALLS = (
    "nvmlInitWithFlags",
    "nvmlShutdown",
    "nvmlDeviceGetCount_v2",
    "nvmlDeviceGetHandleByIndex_v2",
    "nvmlDeviceGetUUID",
    "nvmlDeviceGetName",
    "nvmlDeviceGetMemoryInfo",
    "nvmlDeviceGetComputeRunningProcesses_v3",
)
"""Every call that the engine makes."""
ERROR_STRING = "nvmlErrorString"
SOURCE = Path(__file__).with_name("nvml.c")


def compile_library(folder: Path, without: str = "", name: str = "fake-nvml.so") -> Path:
    """Compile the shim, one of its functions left out where asked; skips without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler for the fake NVML")
    library = folder / name
    macros = [f"-DWITHOUT_{without}"] if without else []
    command = [compiler, "-shared", "-fPIC", *macros, f"-Wl,-soname,{name}", "-o", str(library), str(SOURCE)]
    subprocess.run(command, check=True, timeout=60)
    return library


class FakeNvml:
    """Tells the shim which GPUs there are and what fails."""

    def __init__(self, library: Path) -> None:
        self.library = ctypes.CDLL(str(library))
        self.reset(1)

    def reset(self, gpus: int) -> None:
        """Let this many sound GPUs be there, without processes."""
        self.library.fake_reset(gpus)

    def fail(self, call: str, code: int) -> None:
        self.library.fake_fault(call.encode(), code, 0)

    def hang(self, call: str) -> None:
        """The next and every later call waits for `release`."""
        self.library.fake_fault(call.encode(), 0, 1)

    def release(self) -> None:
        self.library.fake_release()

    def process(self, pid: int, used: int) -> None:
        """A process computes on every GPU and uses this many bytes of it."""
        self.library.fake_process(pid, ctypes.c_ulonglong(used))

    @property
    def calls(self) -> int:
        return int(self.library.fake_calls())


def uuid_of(index: int) -> str:
    return f"GPU-{0xA + index % 6:x}{index:07x}-0000-0000-0000-000000000000"


def put_in_place(library: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pynvml call this library for the rest of a test."""
    pynvml = importlib.import_module("pynvml")
    monkeypatch.setattr(pynvml, "nvmlLib", library)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
