"""What would make a model fit, or fit better, in order of least harm."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from engine.plan.draft import Filling
from engine.plan.explain import gib
from engine.plan.footprint import Footprint
from engine.plan.strategies import Chooser
from engine.values import Alternative, Budget, Fits, Quantization, Strategy

Other = Callable[[Quantization], Footprint]
"""The same model's footprint at another quantization."""
_ORDER = (Fits.GPU, Fits.GPU_RAM, Fits.DISK, Fits.NO)
_STRONGER = {
    Quantization.NONE: (Quantization.INT8, Quantization.NF4),
    Quantization.INT8: (Quantization.NF4,),
    Quantization.NF4: (),
}
_WINDOW_STEP = 256
_ENDLESS = 1 << 50
_PLACES = {
    Fits.GPU: "on the GPUs",
    Fits.GPU_RAM: "without the disk",
    Fits.DISK: "with some of it on disk",
    Fits.NO: "nowhere",
}


class Case(NamedTuple):
    """A plan that others may be better than.

    Attributes:
        chooser: of its model and devices.
        way: it; None where nothing fits.
        context_window: its tokens.
    """

    chooser: Chooser
    way: Filling | None
    context_window: int

    @property
    def level(self) -> int:
        """How slow a place it needs: 0 is the best."""
        return _ORDER.index(self.way.fits if self.way else Fits.NO)

    @property
    def is_best(self) -> bool:
        """No other plan could lie better: all on GPUs, or in RAM where there are none."""
        return self.level <= (0 if self.chooser.devices.gpus else 1)


def alternatives(case: Case, other: Other | None) -> tuple[Alternative, ...]:
    """Quantizing, a shorter context, more RAM, more disk: those that help, each with its forecast.

    Args:
        case: the plan as it is.
        other: footprints at other quantizations; None offers no quantizing.
    """
    if case.is_best or case.chooser.strategy is Strategy.CUSTOM:
        return ()
    return (
        *(_quantized(case, other) if other else ()),
        *_shorter(case),
        *_with_more_ram(case),
        *_with_more_disk(case),
    )


def _quantized(case: Case, other: Other) -> Iterator[Alternative]:
    chooser, before = case.chooser, case.chooser.footprint
    for kind in _STRONGER[before.quantization]:
        footprint = other(kind)
        if footprint.quantization is not kind:
            return
        packed = Chooser(footprint, chooser.devices, chooser.strategy)
        way = packed.way(case.context_window)
        if way is not None and way.packs and _is_better(case, packed, way):
            left = sum(m.bytes for m in footprint.modules if m.bytes == m.plain_bytes)
            change = (
                f"Quantize to {kind}: {gib(footprint.weight_bytes)} of weights, not "
                f"{gib(before.weight_bytes)}; {gib(left)} of embeddings, head and norms stay as they are."
            )
            yield _alternative(packed, way, case.context_window, change)


def _is_better(case: Case, chooser: Chooser, way: Filling) -> bool:
    """It lies better, or as well and faster."""
    level = _ORDER.index(way.fits)
    if case.way is None or level != case.level:
        return level < case.level
    before = case.chooser.seconds(case.way, case.context_window)
    return chooser.seconds(way, case.context_window) < before


def _shorter(case: Case) -> Iterator[Alternative]:
    """For every better place, the longest context that fits there, the longest first."""
    best = 0 if case.chooser.devices.gpus else 1
    longest = 0
    found: list[tuple[int, Filling]] = []
    for level in range(best, case.level):
        window = _longest_window(case, level)
        way = case.chooser.way(window) if window > longest else None
        if way is not None:
            found.append((window, way))
            longest = window
    for window, way in reversed(found):
        change = f"Shorten the context to {window:,} tokens: it then fits {_PLACES[way.fits]}."
        yield _alternative(case.chooser, way, window, change)


def _longest_window(case: Case, level: int) -> int:
    """Tokens, in steps, below the case's own; 0 where even one step is too long."""
    low, high = 0, (case.context_window - 1) // _WINDOW_STEP + 1
    if high == 1 or not _reaches(case.chooser, _WINDOW_STEP, level):
        return 0
    while high - low > 1:
        middle = (low + high) // 2
        if _reaches(case.chooser, middle * _WINDOW_STEP, level):
            low = middle
        else:
            high = middle
    return low * _WINDOW_STEP


def _reaches(chooser: Chooser, context_window: int, level: int) -> bool:
    if _ORDER[level] is Fits.DISK:
        return chooser.way(context_window) is not None
    return chooser.fits_without_disk(context_window, on_gpus=_ORDER[level] is Fits.GPU)


def _with_more_ram(case: Case) -> Iterator[Alternative]:
    devices = case.chooser.devices
    if case.level <= _ORDER.index(Fits.GPU_RAM):
        return
    wide = devices._replace(ram=_endless(devices.ram))
    chooser = Chooser(case.chooser.footprint, wide, case.chooser.strategy)
    way = chooser.way(case.context_window)
    if way is None or way.fits is Fits.DISK:
        return
    more = way.of("ram").predicted_bytes - devices.ram.free_bytes
    if more > 0:
        change = f"{_get(devices.ram, '--ram')} {gib(more)} more RAM: it then fits {_PLACES[way.fits]}."
        yield _alternative(chooser, way, case.context_window, change, ram_bytes=more)


def _with_more_disk(case: Case) -> Iterator[Alternative]:
    devices = case.chooser.devices
    if case.way is not None:
        return
    wide = devices._replace(disk=_endless(devices.disk))
    chooser = Chooser(case.chooser.footprint, wide, case.chooser.strategy)
    way = chooser.way(case.context_window)
    if way is None:
        return
    disk = way.of("disk")
    more = disk.weight_bytes - (disk.budget_bytes - _ENDLESS) - devices.disk.free_bytes
    if more > 0:
        get = _get(devices.disk, "--disk")
        change = f"{get} {gib(more)} more of the disk: it then fits {_PLACES[way.fits]}."
        yield _alternative(chooser, way, case.context_window, change, disk_bytes=more)


def _get(budget: Budget, flag: str) -> str:
    return f"Allow (with {flag})" if budget.given else "Free"


def _endless(budget: Budget) -> Budget:
    return msgspec.structs.replace(budget, free_bytes=_ENDLESS)


def _alternative(
    chooser: Chooser, way: Filling, context_window: int, change: str, **more: int
) -> Alternative:
    return Alternative(
        change=change,
        context_window=context_window,
        quantization=chooser.footprint.quantization if way.packs else Quantization.NONE,
        fits=way.fits,
        ram_bytes=more.get("ram_bytes", 0),
        disk_bytes=more.get("disk_bytes", 0),
        forecast=chooser.forecast(way, context_window),
    )
