"""Everything that a plan rests on: the look at a model, its dry run, the budgets, the machine's limits."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import engine
from engine import errors, values
from tui.verbs.assistant import Assistant

_LONGEST_NAME = 60
_AGAIN_SECONDS = 600.0
"""A measurement that was disturbed is not repeated sooner: the machine may stay busy."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is known before anything is placed.

    Attributes:
        verdict: what the folder says.
        blueprint: what the model is made of; None where closed forms have to do.
        budgets: what each device may give.
        limits: of this machine.
        notes: sentences about what could not be found out.
    """

    verdict: engine.Verdict
    blueprint: values.Blueprint | None
    budgets: tuple[values.Budget, ...]
    limits: values.MachineLimits
    notes: tuple[str, ...] = ()


def study(
    folder: Path,
    request: values.BudgetRequest,
    *,
    measure: bool = False,
    needs_speed: bool = True,
    adapter: Path | None = None,
) -> Study:
    """Look at a model and at this machine; an engine process is started only for what is not known yet.

    Args:
        folder: the model's folder; config.json alone is enough.
        request: what the person allows.
        measure: measure this machine, even where it was.
        needs_speed: measure it where it never was, for a model on its disk and its own devices.
        adapter: folder of the one that is merged into the model.

    Raises:
        EngineError: nothing there can be planned, or the measurement that was asked for failed.
    """
    verdict = engine.look_at(folder, adapter)
    blueprint = engine.known_blueprint(folder)
    with Assistant() as assistant:
        if is_unknown := blueprint is None and _can_be_built(verdict):
            assistant.start()
        budgets = engine.live_budgets(request)
        if is_unknown:
            blueprint = assistant.dry_run(folder, is_needed=not verdict.tensors)
        if measure:
            assistant.measure()
        elif needs_speed and verdict.is_on_disk and _is_to_be_measured(budgets):
            assistant.try_to_measure()
        limits = engine.machine_limits(budgets)
    return Study(
        verdict=verdict, blueprint=blueprint, budgets=budgets, limits=limits, notes=tuple(assistant.notes)
    )


def _can_be_built(verdict: engine.Verdict) -> bool:
    """Transformers has a class for it. Raises UnsupportedModel where closed forms know none either."""
    if not verdict.native_class and not verdict.tensors:
        name = (
            verdict.config.architecture or verdict.config.model_type or "A model that names no architecture"
        )
        message = f"{name[:_LONGEST_NAME]} cannot be planned: this version knows no text model like it."
        raise errors.UnsupportedModel(message, "Check model_type in config.json, or get its weights first.")
    return bool(verdict.native_class)


def _is_to_be_measured(budgets: tuple[values.Budget, ...]) -> bool:
    """Nothing was measured yet, or not in calm; and the plan is for devices that can be measured."""
    imaginary = [budget for budget in budgets if budget.device.startswith("gpu:") and not budget.uuid]
    limits = engine.machine_limits(budgets)
    is_due = limits.was_disturbed and time.time() - limits.measured_at > _AGAIN_SECONDS
    return not imaginary and (limits.measured_at == 0 or is_due)
