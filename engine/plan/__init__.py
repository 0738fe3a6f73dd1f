"""Arithmetic of what goes where, before anything is loaded; without torch."""

from __future__ import annotations

from pathlib import Path

from engine.checkpoint import inspect_folder
from engine.errors import DoesNotFit
from engine.offload import parent_folder
from engine.plan.budgets import live_budgets
from engine.plan.footprint import Footprint, Module, footprint_of
from engine.plan.placement import placement_for, require_real_devices
from engine.values import BudgetRequest, Fits, Placement, Quantization

__all__ = [
    "Footprint",
    "Module",
    "footprint_of",
    "live_budgets",
    "place",
    "placement_for",
    "require_real_devices",
]

ALL_THAT_IS_FREE = BudgetRequest()


def place(
    folder: Path,
    *,
    context_window: int | None = None,
    quantization: Quantization = Quantization.NONE,
    budgets: BudgetRequest = ALL_THAT_IS_FREE,
) -> Placement:
    """Judge a model folder and place its modules against this machine's free memory.

    Args:
        folder: the model's folder.
        context_window: tokens; None takes what fits comfortably.
        quantization: how linear weights are to be stored.
        budgets: what the person allows.

    Raises:
        CheckpointError: the folder cannot be loaded as it is.
        DoesNotFit: no device, nor all together, can hold it.
    """
    footprint = footprint_of(inspect_folder(folder), quantization)
    placement = placement_for(footprint, live_budgets(budgets), context_window, parent_folder(budgets))
    if placement.fits is Fits.NO:
        hint = "Ask for a shorter context window, free memory, or allow more with --ram and --disk."
        raise DoesNotFit(placement.reasons[0], hint)
    return placement
