from __future__ import annotations

import logging
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine import gpu_watch
from engine.gpu_watch import RETRY_SECONDS, GpuWatch
from engine.memory import MemoryMonitor, MemoryReading, read_memory
from tests.fake_nvml import FakeNvml, compile_library, put_in_place

PATIENCE_SECONDS = 20.0
SILENT = "n/a (the driver does not answer)"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> FakeNvml:
    """The shim, compiled once."""
    return FakeNvml(compile_library(tmp_path_factory.mktemp("nvml")))


@pytest.fixture
def fake(library: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNvml]:
    """The shim in pynvml's hands, one sound GPU in it; attempts follow each other quickly."""
    put_in_place(library.library, monkeypatch)
    monkeypatch.setattr(gpu_watch, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(gpu_watch, "STALE_SECONDS", 0.2)
    library.reset(1)
    yield library
    library.release()
    for thread in threading.enumerate():
        if thread.name == "nvml":
            thread.join(PATIENCE_SECONDS)


class Watched:
    """A monitor whose readings a test waits for."""

    def __init__(self, pid: int | None = None) -> None:
        self._readings: queue.SimpleQueue[MemoryReading] = queue.SimpleQueue()
        self.monitor = MemoryMonitor(self._readings.put, lambda: pid, interval=0.01)

    def __enter__(self) -> Watched:
        self.monitor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.monitor.close()

    def until(self, is_right: Callable[[MemoryReading], bool]) -> MemoryReading:
        """The first reading that is right."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            reading = self._readings.get(timeout=PATIENCE_SECONDS)
            if is_right(reading):
                return reading
        pytest.fail("no such reading")


def problem_of(reading: MemoryReading) -> str:
    return reading.gpus[0].problem if reading.gpus else reading.gpu_note


def is_sound(reading: MemoryReading) -> bool:
    return bool(reading.gpus) and not problem_of(reading)


def test_readings_come_until_the_monitor_is_closed(fake: FakeNvml) -> None:
    with Watched(os.getpid()) as watched:
        first = watched.until(is_sound)
        second = watched.until(is_sound)
        assert second.at > first.at
        assert first.ram.engine_bytes > 0
    assert not any(thread.name in {"memory monitor", "nvml"} for thread in threading.enumerate())


def test_a_monitor_that_was_never_started_may_be_closed() -> None:
    readings: list[MemoryReading] = []
    MemoryMonitor(readings.append).close()
    assert readings == []


def test_a_reader_may_close_the_monitor(fake: FakeNvml) -> None:
    closed = threading.Event()

    def close(_: MemoryReading) -> None:
        monitor.close()
        closed.set()

    monitor = MemoryMonitor(close, interval=0.01)
    monitor.start()
    assert closed.wait(PATIENCE_SECONDS)


def test_bytes_from_disk_become_a_rate(tmp_path: Path) -> None:
    counter = tmp_path / "proc" / "7" / "io"
    counter.parent.mkdir(parents=True)
    readings: queue.SimpleQueue[MemoryReading] = queue.SimpleQueue()
    counter.write_text("read_bytes: 0\n")
    monitor = MemoryMonitor(readings.put, lambda: 7, interval=0.01, root=tmp_path)
    monitor.start()
    try:
        assert readings.get(timeout=PATIENCE_SECONDS).disk_read_bps == 0
        counter.write_text("read_bytes: 1000000\n")
        rates = (readings.get(timeout=PATIENCE_SECONDS).disk_read_bps for _ in range(1000))
        assert next(rate for rate in rates if rate) > 0
    finally:
        monitor.close()


def test_check_35_a_failing_driver_is_a_reason_and_recovers(fake: FakeNvml) -> None:
    with Watched() as watched:
        watched.until(is_sound)
        fake.fail("nvmlDeviceGetMemoryInfo", 15)
        assert problem_of(watched.until(lambda reading: not is_sound(reading))) == "n/a (GPU is lost)"
        fake.reset(1)
        watched.until(is_sound)


def test_check_35_a_new_attempt_comes_within_thirty_seconds() -> None:
    assert RETRY_SECONDS <= 30


def test_check_35_a_driver_that_hangs_keeps_no_reading_waiting(fake: FakeNvml) -> None:
    with Watched(os.getpid()) as watched:
        watched.until(is_sound)
        fake.hang("nvmlDeviceGetMemoryInfo")
        silent = watched.until(lambda reading: problem_of(reading) == SILENT)
        assert silent.gpu_note == SILENT
        started = time.monotonic()
        for _ in range(20):
            assert watched.until(lambda _: True).ram.total_bytes > 0
        assert time.monotonic() - started < PATIENCE_SECONDS / 2
        fake.release()
        watched.until(is_sound)


def test_check_35_closing_does_not_wait_for_a_driver_that_hangs(fake: FakeNvml) -> None:
    fake.hang("nvmlInitWithFlags")
    with Watched() as watched:
        watched.until(lambda reading: reading.gpu_note == SILENT)
        started = time.monotonic()
    assert time.monotonic() - started < PATIENCE_SECONDS / 2


def test_check_35_a_long_fault_is_logged_once_a_minute(
    fake: FakeNvml, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING, "engine.gpu_watch")
    fake.fail("nvmlDeviceGetMemoryInfo", 15)
    with Watched() as watched:
        calls = fake.calls
        watched.until(lambda _: fake.calls > calls + 40)
        assert [record.getMessage() for record in caplog.records] == ["NVML: n/a (GPU is lost)"]
        monkeypatch.setattr(gpu_watch, "_LOG_SECONDS", 0.0)
        watched.until(lambda _: len(caplog.records) > 1)


def test_check_35_a_machine_without_a_driver_says_so_and_logs_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def absent(name: str) -> object:
        raise OSError(name)

    put_in_place(None, monkeypatch)
    monkeypatch.setattr("pynvml.CDLL", absent)
    with Watched() as watched:
        assert watched.until(lambda reading: bool(reading.gpu_note)).gpu_note == "no NVIDIA driver"
    assert caplog.records == []


def test_one_reading_holds_everything(fake: FakeNvml) -> None:
    fake.process(os.getpid(), 1 << 30)
    reading = read_memory(os.getpid())
    assert reading.gpus[0].own_bytes == 1 << 30
    assert reading.ram.engine_bytes > 0


def test_one_reading_waits_for_a_driver_that_hangs_only_so_long(fake: FakeNvml) -> None:
    fake.hang("nvmlInitWithFlags")
    watch = GpuWatch(lambda: None, 0.01)
    watch.start()
    assert watch.first(0.05) == ((), SILENT)
    fake.release()
    watch.close()


def test_check_47_reading_memory_imports_no_torch() -> None:
    program = "import sys, engine; engine.read_memory(); engine.list_models(); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "False\n"
