"""Readings made quiet: a device whose figures hardly moved keeps them, and its cells stay as they are."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import msgspec

from tui.format import MIB
from tui.gauges import gpu_title

if TYPE_CHECKING:
    from engine import GpuReading, MemoryReading, RamReading

_SHARE_OF_VRAM = 500
_SHARE_OF_RAM = 200
_ENGINE_STEP = 2 * MIB
_SPAN_SECONDS = 60
_BIN_SECONDS = 2


class Settled:
    """The newest reading, but for devices that stayed where they were.

    A device is taken over whole or not at all, so that its parts still add up.
    """

    def __init__(self) -> None:
        """Begin without a reading."""
        self.reading: MemoryReading | None = None

    def take(self, reading: MemoryReading) -> MemoryReading:
        """Take what moved of a reading, and return what is to be shown."""
        before = self.reading
        if before is not None:
            old = {gpu.uuid: gpu for gpu in before.gpus}
            gpus = tuple(_quiet_gpu(old.get(gpu.uuid, gpu), gpu) for gpu in reading.gpus)
            reading = msgspec.structs.replace(reading, gpus=gpus, ram=_quiet_ram(before.ram, reading.ram))
        self.reading = reading
        return reading


def engine_moved(before: MemoryReading, now: MemoryReading) -> bool:
    """Whether it is the engine whose memory or reading from disk changed, not only others'."""
    return _engine_figures(before) != _engine_figures(now)


def _engine_figures(reading: MemoryReading) -> tuple[object, ...]:
    own = tuple(gpu.own_bytes for gpu in reading.gpus)
    return own, reading.ram.engine_bytes, reading.ram.engine_anonymous_bytes, reading.disk_read_bps


def _quiet_gpu(old: GpuReading, new: GpuReading) -> GpuReading:
    same = (old.problem, old.vram_total, old.own_bytes is None) == (
        new.problem,
        new.vram_total,
        new.own_bytes is None,
    )
    step = max(_ENGINE_STEP, new.vram_total // _SHARE_OF_VRAM)
    moved = (
        abs(old.vram_used - new.vram_used) > step or abs((old.own_bytes or 0) - (new.own_bytes or 0)) > step
    )
    return old if same and not moved else new


def _quiet_ram(old: RamReading, new: RamReading) -> RamReading:
    same = (old.limit, old.total_bytes) == (new.limit, new.total_bytes)
    step = max(_ENGINE_STEP, new.total_bytes // _SHARE_OF_RAM)
    moved = (
        abs(old.ram_used - new.ram_used) > step
        or abs(old.page_cache_bytes - new.page_cache_bytes) > step
        or abs(old.engine_bytes - new.engine_bytes) > _ENGINE_STEP
        or abs(old.engine_anonymous_bytes - new.engine_anonymous_bytes) > _ENGINE_STEP
    )
    return old if same and not moved else new


class History:
    """The share of every device that was in use, in steps of two seconds over the last minute."""

    def __init__(self) -> None:
        """Begin without a past."""
        self._shares: dict[str, deque[float]] = {}
        self._bin: int | None = None

    def note(self, reading: MemoryReading) -> None:
        """Take a reading; its own clock says which step it belongs to."""
        at = int(reading.at // _BIN_SECONDS)
        missed = 0 if self._bin is None else min(at - self._bin, _SPAN_SECONDS // _BIN_SECONDS)
        self._bin = at
        for gpu in reading.gpus:
            self._add(gpu_title(gpu), gpu.vram_used, gpu.vram_total, missed)
        self._add("RAM", reading.ram.ram_used, reading.ram.total_bytes, missed)

    def shares(self, title: str) -> tuple[float, ...]:
        """Shares of one device, oldest first."""
        return tuple(self._shares.get(title, ()))

    def _add(self, title: str, used: int, total: int, missed: int) -> None:
        shares = self._shares.setdefault(title, deque(maxlen=_SPAN_SECONDS // _BIN_SECONDS))
        share = used / total if total > 0 else 0.0
        if missed <= 0 and shares:
            shares[-1] = max(shares[-1], share)
            return
        shares.extend(shares[-1] for _ in range(missed - 1) if shares)
        shares.append(share)
