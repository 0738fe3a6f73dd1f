"""Whether others disturb what is measured: processes on the same cores, guests on the same memory."""

from __future__ import annotations

import ctypes
import mmap
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil
import torch

from engine.hf.measure import ram_bandwidth

QUIET_SHARE = 0.04
"""Of all cores; threads that wait for each other notice more."""
LOOK_SECONDS = 1.0
PATIENCE_SECONDS = 300.0
PROBED_BYTES = 200 << 20
PROBES = 3
FAR = 0.15
"""Bandwidth that differs by more is that of another machine."""
KERNELS = """
import torch
from engine.hf.native.build import builds_folder, built_library
folder = builds_folder()
folder and built_library(folder)
"""
_IDLE, _WAITING, _GUEST = 3, 4, 8
"""Places in the first line of /proc/stat; time of guests is counted as the user's, too."""


class Others:
    """CPU time of everyone but this process and its children, from now on."""

    def __init__(self) -> None:
        """Begin."""
        self._family = psutil.Process()
        self._started = time.perf_counter()
        self._before = self._ticks()

    def share(self) -> float:
        """Of all cores since the beginning, 0 to 1."""
        seconds = (self._ticks() - self._before) / os.sysconf("SC_CLK_TCK")
        return max(0.0, seconds) / (time.perf_counter() - self._started) / (os.cpu_count() or 1)

    def _ticks(self) -> int:
        family = (self._family, *self._family.children(recursive=True))
        return busy_ticks() - sum(_ticks_of(process.pid) for process in family)


def build_kernels(environment: Mapping[str, str] | None = None) -> None:
    """Have the kernels compiled: beside an engine that is measured, a compiler takes cores and memory."""
    subprocess.run([sys.executable, "-c", KERNELS], check=True, env=environment)


def busy_ticks() -> int:
    """Ticks that all cores together have worked, or were withheld by the hypervisor, since the start."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return sum(ticks[:_GUEST]) - ticks[_IDLE] - ticks[_WAITING]


def _ticks_of(pid: int) -> int:
    """A process's own, and those of the children that it has waited for; 0 where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(int(field) for field in fields[11:15])


def wait_for_quiet(patience: float = PATIENCE_SECONDS) -> bool:
    """Return as soon as nobody else computes; False when that took too long."""
    end = time.perf_counter() + patience
    while time.perf_counter() < end:
        others = Others()
        time.sleep(LOOK_SECONDS)
        if others.share() <= QUIET_SHARE:
            return True
    return False


class MemoryProbe:
    """Reads memory whenever it is called; the median of what it found."""

    def __init__(self) -> None:
        """Take memory that no cache holds."""
        self._memory = torch.ones(PROBED_BYTES, dtype=torch.uint8)
        self._found: list[float] = []

    def __call__(self) -> None:
        """Read it."""
        self._found += [ram_bandwidth(self._memory) for _ in range(PROBES)]

    def is_near(self, bandwidth: float) -> bool:
        """Whether memory was read about as fast.

        Args:
            bandwidth: bytes per second, by the same probe, when the machine was measured.
        """
        return abs(statistics.median(self._found) / bandwidth - 1) <= FAR

    def now(self) -> float:
        """Read it, forget what was found before, and return its bandwidth in bytes per second."""
        self._found.clear()
        self()
        return statistics.median(self._found)


def touch_memory(size: int) -> None:
    """Use and give back so much memory: a virtual machine's host may take milliseconds for each page anew."""
    pages = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    pages.madvise(mmap.MADV_HUGEPAGE)
    first = ctypes.c_char.from_buffer(pages)
    ctypes.memset(ctypes.addressof(first), 1, size)
    del first
    pages.close()
