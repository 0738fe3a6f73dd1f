"""Footprint + budgets -> Placement: a tier and a device for every module."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from engine.errors import DoesNotFit
from engine.plan.explain import (
    context_sentence,
    imaginary,
    shortage,
    tier_sentences,
    unpacked,
    why_offloaded,
)
from engine.plan.fill import Devices, Filler, Filling
from engine.plan.footprint import Footprint
from engine.plan.forecast import forecast_of
from engine.plan.limits import machine_limits
from engine.values import Budget, Fits, MachineLimits, Placement, Quantization, Strategy

DeviceMap = tuple[tuple[str, str], ...]
Other = Callable[[Quantization], Footprint]

COMFORTABLE_CONTEXT_WINDOW = 8192
"""Tokens reserved when nobody asks for a length."""
_SHORTER_CONTEXT_WINDOWS = (4096, 2048)


def placement_for(  # noqa: PLR0913 - each is one wish of the person, with a default
    footprint: Footprint,
    budgets: Iterable[Budget],
    context_window: int | None = None,
    offload_folder: Path | None = None,
    *,
    limits: MachineLimits | None = None,
    strategy: Strategy = Strategy.AUTO,
    device_map: DeviceMap = (),
    other: Other | None = None,
) -> Placement:
    """Place every module; `fits` is `no`, and `layers` empty, where nothing fits.

    KV cache and activations come first, at the context window asked for; then the layers in
    forward order onto the GPUs, RAM and disk. On a machine whose GPU takes part, layers in RAM
    are streamed to it; otherwise the CPU computes them.

    Args:
        footprint: what the model needs.
        budgets: what each device may give; without one for RAM or disk it gives nothing.
        context_window: tokens; None takes what fits comfortably, at most 8,192.
        offload_folder: where rewritten tensors of the disk tier go.
        limits: of this machine; None takes typical ones.
        strategy: how to choose among the ways that fit.
        device_map: of the `custom` strategy: (path of a module and all below it, device).
        other: the same model's footprint at another quantization, for alternatives; None offers none.
    """
    limits = limits or machine_limits(budgets := tuple(budgets))
    devices = _by_kind(budgets)
    longest = footprint.config.context_window
    window = min(context_window, longest) if context_window else _comfortable(footprint, devices)
    filler = Filler(footprint, devices, window)
    way = filler.best()
    if way is None:
        return _refusal(footprint, devices, filler, window)
    reasons = (
        *tier_sentences(way.layers),
        *why_offloaded(way.devices, footprint.weight_bytes, way.fits),
        *context_sentence(window, longest, context_window),
        *unpacked(footprint.quantization, packs=way.packs),
        *imaginary(devices.gpus),
        *footprint.notes,
    )
    return Placement(
        context_window=window,
        quantization=footprint.quantization if way.packs else Quantization.NONE,
        layers=way.layers,
        devices=way.devices,
        fits=way.fits,
        offload_folder=offload_folder if way.fits is Fits.DISK else None,
        reasons=reasons,
        strategy=strategy,
        forecast=forecast_of(footprint, way.layers, window, limits),
    )


def require_real_devices(placement: Placement) -> None:
    """Refuse to load what was planned for GPUs that this machine does not have.

    Raises:
        DoesNotFit: it was.
    """
    imagined = [plan.device for plan in placement.devices if plan.device.startswith("gpu:") and not plan.uuid]
    used = {layer.device for layer in placement.layers}
    missing = [device for device in imagined if device in used]
    if missing:
        message = f"The plan is for {', '.join(missing)}, which this machine does not have."
        raise DoesNotFit(message, "Load it without --gpu, or on a machine that has one.")


def _by_kind(budgets: Iterable[Budget]) -> Devices:
    named = {budget.device: budget for budget in budgets}
    gpus = tuple(budget for device, budget in named.items() if device.startswith("gpu:"))
    nothing = Budget(device="ram", free_bytes=0)
    no_disk = Budget(device="disk", free_bytes=0, given=True)
    return Devices(gpus, named.get("ram", nothing), named.get("disk", no_disk))


def _refusal(footprint: Footprint, devices: Devices, filler: Filler, window: int) -> Placement:
    needs = filler.shortage()
    return Placement(
        context_window=window,
        quantization=footprint.quantization,
        devices=needs,
        fits=Fits.NO,
        reasons=(shortage(needs, window), *imaginary(devices.gpus), *footprint.notes),
    )


def _comfortable(footprint: Footprint, devices: Devices) -> int:
    """The longest of a few windows that moves no more to a slower place than the shortest does."""
    longest = min(COMFORTABLE_CONTEXT_WINDOW, footprint.config.context_window)
    windows = [longest, *(window for window in _SHORTER_CONTEXT_WINDOWS if window < longest)]
    ways = {window: Filler(footprint, devices, window).best() for window in windows}
    best = _moved(ways[windows[-1]])
    return next(window for window in windows if _moved(ways[window]) == best)


def _moved(way: Filling | None) -> object:
    return way.rank if way else None
