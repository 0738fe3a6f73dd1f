"""Arithmetic of what goes where, before anything is loaded; without torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from engine.checkpoint import inspect_folder
from engine.errors import DoesNotFit
from engine.memory import read_memory
from engine.offload import parent_folder
from engine.plan.budgets import live_budgets
from engine.plan.custom_map import DeviceMap
from engine.plan.footprint import Footprint, Module, footprint_of
from engine.plan.limits import machine_limits
from engine.plan.placement import placement_for, require_real_devices
from engine.plan.recheck import require_room
from engine.plan.shelf import known_blueprint
from engine.values import BudgetRequest, DeviceLedger, Fits, Placement, Quantization, Strategy

__all__ = [
    "Footprint",
    "Module",
    "footprint_of",
    "live_budgets",
    "place",
    "placement_for",
    "require_real_devices",
    "require_room",
]

ALL_THAT_IS_FREE = BudgetRequest()


def place(  # noqa: PLR0913 - each is one wish of the person, with a default
    folder: Path,
    *,
    context_window: int | None = None,
    quantization: Quantization = Quantization.NONE,
    budgets: BudgetRequest = ALL_THAT_IS_FREE,
    strategy: Strategy = Strategy.AUTO,
    device_map: DeviceMap = (),
    own: Iterable[DeviceLedger] = (),
    pid: int | None = None,
    may_run_code: bool = False,
    adapter: Path | None = None,
) -> Placement:
    """Judge a model folder and place its modules against this machine's free memory.

    Args:
        folder: the model's folder.
        context_window: tokens; None takes what fits comfortably.
        quantization: how linear weights are to be stored.
        budgets: what the person allows.
        strategy: how to choose among the ways that fit.
        device_map: of the `custom` strategy: (path of a module and all below it, device).
        own: what the engine's present model holds.
        pid: the engine's process, whose memory a new model takes over.
        may_run_code: the person agreed to the repository's own code.
        adapter: folder of the one that is merged into the model.

    Raises:
        CheckpointError: the folder cannot be loaded as it is.
        InvalidValue: the device_map says what cannot be.
        DoesNotFit: no device, nor all together, can hold it.
    """
    verdict = inspect_folder(folder, may_run_code=may_run_code, adapter=adapter)
    blueprint = known_blueprint(folder)
    reading = read_memory(pid)
    live = live_budgets(budgets, reading, own)
    placement = placement_for(
        footprint_of(verdict, quantization, blueprint),
        live,
        context_window,
        parent_folder(budgets),
        limits=machine_limits(live, reading.ram),
        strategy=strategy,
        device_map=device_map,
        other=lambda asked: footprint_of(verdict, asked, blueprint),
    )
    if placement.fits is Fits.NO:
        raise DoesNotFit(placement.reasons[0], _hint(placement))
    return placement


def _hint(placement: Placement) -> str:
    if placement.alternatives:
        return placement.alternatives[0].change
    if placement.strategy is Strategy.CUSTOM:
        return "Send less to that device, or ask for a shorter context window."
    return "Ask for a shorter context window, free memory, or allow more with --ram and --disk."
