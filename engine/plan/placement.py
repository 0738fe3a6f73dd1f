"""Footprint + budgets -> Placement: a tier and a device for every module."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from engine.errors import DoesNotFit
from engine.plan import explain
from engine.plan.alternatives import Case, Other, alternatives
from engine.plan.cache import PREFILL_CHUNK
from engine.plan.cpu_way import least_need
from engine.plan.custom_map import DeviceMap
from engine.plan.devices import by_kind
from engine.plan.draft import Filling
from engine.plan.footprint import Footprint
from engine.plan.limits import machine_limits
from engine.plan.need import Need
from engine.plan.strategies import Chooser
from engine.values import Budget, DevicePlan, Fits, MachineLimits, Placement, Quantization, Strategy, Tier

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
        limits: of this machine; None takes those that are known.
        strategy: how to choose among the ways that fit.
        device_map: of the `custom` strategy: (path of a module and all below it, device).
        other: the same model's footprint at another quantization, for alternatives; None offers none.

    Raises:
        InvalidValue: the device_map says what cannot be.
    """
    given = tuple(budgets)
    devices = by_kind(given, limits or machine_limits(given))
    chooser = Chooser(footprint, devices, strategy, device_map)
    longest = footprint.config.context_window
    window = min(context_window, longest) if context_window else _comfortable(chooser)
    way = chooser.way(window)
    if way is None or _is_over_budget(way):
        needs = way.devices if way else least_need(chooser.need(window), devices)
        return _refusal(Case(chooser, None, window), needs, other)
    return Placement(
        context_window=window,
        quantization=footprint.quantization if way.packs else Quantization.NONE,
        layers=way.layers,
        devices=way.devices,
        fits=way.fits,
        offload_folder=offload_folder if way.fits is Fits.DISK else None,
        reasons=(*_reasons(chooser, way, window), *explain.context_sentence(window, longest, context_window)),
        strategy=strategy,
        forecast=chooser.forecast(way, window),
        prefill_chunk=_chunk(chooser.need(window), way),
        alternatives=alternatives(Case(chooser, way, window), other),
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


def _chunk(need: Need, way: Filling) -> int:
    """Tokens of a prompt computed at once: fewer where everything lies in RAM, and attention keeps scores."""
    return need.cpu_chunk if {layer.tier for layer in way.layers} == {Tier.CPU} else PREFILL_CHUNK


def _is_over_budget(way: Filling) -> bool:
    """Some device would have to hold more than it may: a way of the person's own is not made to fit."""
    return any(plan.predicted_bytes > plan.budget_bytes for plan in way.devices)


def _refusal(case: Case, needs: tuple[DevicePlan, ...], other: Other | None) -> Placement:
    footprint, devices, window = case.chooser.footprint, case.chooser.devices, case.context_window
    budgets = (*devices.gpus, devices.ram, devices.disk)
    return Placement(
        context_window=window,
        quantization=footprint.quantization,
        devices=needs,
        fits=Fits.NO,
        reasons=(
            explain.shortage(needs, window),
            *explain.imaginary(devices.gpus),
            *explain.capped(budgets),
            *footprint.notes,
        ),
        strategy=case.chooser.strategy,
        alternatives=alternatives(case, other),
    )


def _reasons(chooser: Chooser, way: Filling, window: int) -> tuple[str, ...]:
    """Sentences for every figure of a plan that fits."""
    footprint, devices = chooser.footprint, chooser.devices
    is_measured = devices.limits.measured_at > 0
    main_list = frozenset(module.name for module in footprint.modules if module.layer is not None)
    return (
        *explain.where_layers_go(way.layers, main_list),
        *explain.disk_sentence(way.layers, is_in_place=footprint.is_in_place),
        *explain.why_offloaded(way.devices, footprint.weight_bytes, way.fits),
        *explain.tier_sentences(way.layers),
        *explain.strategy_sentence(chooser.strategy, way.fits, len(devices.gpus)),
        _weights(footprint, way),
        *_cache(chooser.need(window)),
        *explain.reserve_sentences(
            way.devices, min(_chunk(chooser.need(window), way), window), is_measured=is_measured
        ),
        explain.speed_sentence(is_measured=is_measured),
        *explain.unpacked(footprint.quantization, way.layers, packs=way.packs),
        *explain.imaginary(devices.gpus),
        *explain.capped((*devices.gpus, devices.ram, devices.disk)),
        *footprint.notes,
    )


def _weights(footprint: Footprint, way: Filling) -> str:
    packs = way.packs and footprint.quantization is not Quantization.NONE
    how = str(footprint.quantization) if packs else f"{footprint.itemsize * 8}-bit numbers"
    size = sum(layer.bytes for layer in way.layers)
    return explain.weight_sentence(size, footprint.parameters, how, is_exact=footprint.is_exact)


def _cache(need: Need) -> tuple[str, ...]:
    footprint, window = need.footprint, need.context_window
    constant = footprint.kv_bytes(0)
    per_token = footprint.kv_bytes(1) - constant
    kept = need.kv_bytes - footprint.kv_bytes(window)
    return explain.cache_sentences(need.kv_bytes, per_token, constant, kept, window)


def _comfortable(chooser: Chooser) -> int:
    """The longest of a few windows that moves no more to a slower place than the shortest does."""
    longest = min(COMFORTABLE_CONTEXT_WINDOW, chooser.footprint.config.context_window)
    windows = [longest, *(window for window in _SHORTER_CONTEXT_WINDOWS if window < longest)]
    first = chooser.way(longest)
    if chooser.strategy is Strategy.CUSTOM or (first and Case(chooser, first, longest).is_best):
        return longest
    moved = {window: _moved(chooser.way(window)) for window in windows}
    return next(window for window in windows if moved[window] == moved[windows[-1]])


def _moved(way: Filling | None) -> tuple[Fits, int]:
    return (way.fits, way.moved_bytes) if way else (Fits.NO, 0)
