"""Live memory of this machine: NVML by UUID, /proc, cgroup v1 and v2. Knows no torch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from engine.gpu_watch import GpuWatch
from engine.ram import read_bytes_from_disk, read_ram
from engine.readings import GpuReading, MemoryReading, RamReading

__all__ = ["GpuReading", "MemoryMonitor", "MemoryReading", "RamReading", "read_memory"]

INTERVAL_SECONDS = 0.5
ONE_SHOT_SECONDS = 3.0
"""How long a single reading waits for the driver."""
_JOIN_SECONDS = 2.0


def _nobody() -> int | None:
    return None


class MemoryMonitor:
    """A thread that reads this machine's memory twice a second.

    NVML has a thread of its own: a driver that hangs keeps nobody waiting.
    """

    def __init__(
        self,
        on_reading: Callable[[MemoryReading], None],
        pid_of: Callable[[], int | None] = _nobody,
        interval: float = INTERVAL_SECONDS,
        root: Path = Path("/"),
    ) -> None:
        """Prepare; nothing is read before `start`.

        Args:
            on_reading: called in the monitor's thread with every reading.
            pid_of: the engine's process now; None while there is none.
            interval: seconds between readings.
            root: where /proc and /sys lie.
        """
        self._on_reading = on_reading
        self._pid_of = pid_of
        self._interval = interval
        self._root = root
        self._gpus = GpuWatch(pid_of, interval)
        self._disk = _DiskRate(root)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory monitor", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._gpus.start()
        self._thread.start()

    def close(self) -> None:
        """Stop reading; returns within a few seconds even where the driver hangs."""
        self._closed.set()
        self._gpus.close()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        while not self._closed.is_set():
            self._on_reading(self._read())
            self._closed.wait(self._interval)

    def _read(self) -> MemoryReading:
        pid = self._pid_of()
        state = self._gpus.latest()
        return MemoryReading(
            at=time.monotonic(),
            ram=read_ram(pid, self._root),
            gpus=state.gpus,
            gpu_note=state.note,
            disk_read_bps=self._disk.per_second(pid),
        )


class _DiskRate:
    """Bytes per second that a process reads from disks, between two looks."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._pid: int | None = None
        self._bytes = 0
        self._at = 0.0

    def per_second(self, pid: int | None) -> float:
        now, total = time.monotonic(), read_bytes_from_disk(pid, self._root)
        is_same = pid is not None and pid == self._pid and now > self._at
        rate = max(0.0, (total - self._bytes) / (now - self._at)) if is_same else 0.0
        self._pid, self._bytes, self._at = pid, total, now
        return rate


def read_memory(pid: int | None = None, root: Path = Path("/")) -> MemoryReading:
    """Read this machine's memory once; waits for the driver for 3 s at most.

    Args:
        pid: the engine's process; None while there is none.
        root: where /proc and /sys lie.
    """
    watch = GpuWatch(lambda: pid, INTERVAL_SECONDS)
    watch.start()
    state = watch.first(ONE_SHOT_SECONDS)
    watch.close(wait=False)
    ram = read_ram(pid, root)
    return MemoryReading(at=time.monotonic(), ram=ram, gpus=state.gpus, gpu_note=state.note)
