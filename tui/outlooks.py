"""How each model on this disk would fit and how fast it would be: planned one by one, and remembered."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import engine
from engine.errors import EngineError
from engine.values import Fits, Quantization, Tier
from tui.format import format_duration, format_speed, format_tokens

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from engine.values import Budget, BudgetRequest, MachineLimits, ModelRef, Placement
    from tui.model_entries import ModelEntry
    from tui.planner import Machine

_BUCKETS = 64
"""A device's free memory counts in this many steps, so that its small changes keep what is remembered."""
_MOST_REMEMBERED = 4096

Key = tuple["Path", float, tuple[object, ...]]


class Outlook(NamedTuple):
    """What is predicted of one model.

    Attributes:
        fits: the slowest place it would need; None where it cannot be loaded.
        has_gpu: part of it would lie on a GPU.
        decode_tps: tokens per second at a half full context window; 0 where that cannot be told.
        told: the plan in a few words.
        problem: why it cannot be loaded; empty when it can.
    """

    fits: Fits | None
    has_gpu: bool = False
    decode_tps: float = 0.0
    told: str = ""
    problem: str = ""


class Wishes(NamedTuple):
    """What a load would be asked with.

    Attributes:
        budgets: what the person allows.
        context_window: tokens; None takes what fits comfortably.
        quantization: how linear weights are to be stored.
    """

    budgets: BudgetRequest
    context_window: int | None = None
    quantization: Quantization = Quantization.NONE


class Outlooks:
    """Plans models without torch; slow for each that is new, so beside the loop, one at a time."""

    def __init__(self, machine: Callable[[], Machine], wishes: Wishes) -> None:
        """Prepare; nothing is looked at yet.

        Args:
            machine: this machine's memory now.
            wishes: what a load would be asked with.
        """
        self._machine = machine
        self._wishes = wishes
        self._budgets: tuple[Budget, ...] = ()
        self._limits: MachineLimits | None = None
        self._known: dict[Key, Outlook] = {}

    def refresh(self) -> None:
        """Take this machine as it is now."""
        machine = self._machine()
        self._budgets = engine.live_budgets(self._wishes.budgets, machine.reading, own=machine.own)
        ram = machine.reading.ram if machine.reading else None
        self._limits = engine.machine_limits(self._budgets, ram)

    def known(self, entry: ModelEntry) -> Outlook | None:
        """What is remembered of a model on a machine as free as this one is now."""
        return self._known.get(self._key(entry))

    def look(self, entry: ModelEntry) -> Outlook:
        """Plan a model, or remember it."""
        key = self._key(entry)
        if key not in self._known:
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            self._known[key] = self._planned(entry.model)
        return self._known[key]

    def _key(self, entry: ModelEntry) -> Key:
        free = (
            (budget.device, budget.free_bytes * _BUCKETS // max(1, budget.total_bytes))
            for budget in self._budgets
            if budget.device != "disk"
        )
        measured_at = self._limits.measured_at if self._limits else 0.0
        return entry.model.place, entry.modified_at, (measured_at, *free)

    def _planned(self, model: ModelRef) -> Outlook:
        try:
            return outlook_of(self._placed(model))
        except EngineError as error:
            return Outlook(None, problem=error.message)
        except (OSError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            # A config can say what nobody thought of: its row tells so, and the others go on.
            return Outlook(None, problem=f"It cannot be planned: {error!r}.")

    def _placed(self, model: ModelRef) -> Placement:
        verdict = engine.inspect_folder(model.folder, adapter=model.adapter)
        blueprint = engine.known_blueprint(model.folder)
        footprint = engine.footprint_of(verdict, self._wishes.quantization, blueprint)
        window = self._wishes.context_window
        return engine.placement_for(footprint, self._budgets, window, limits=self._limits)


def outlook_of(placement: Placement) -> Outlook:
    """A placement in a few figures and words."""
    forecast = placement.forecast
    window = f"with {format_tokens(placement.context_window)} tokens of context"
    if forecast is None or placement.fits is Fits.NO:
        return Outlook(Fits.NO, told=f"does not fit {window}")
    speeds = f"{format_speed(forecast.decode_tps)}, load {format_duration(forecast.load_seconds)}"
    basis = "measured here" if forecast.is_measured else "typical figures"
    has_gpu = any(layer.tier is Tier.GPU for layer in placement.layers)
    return Outlook(placement.fits, has_gpu, forecast.decode_tps, f"{window}: {speeds} ({basis})")


def fit_word(outlook: Outlook | None, problem: str = "") -> tuple[str, str]:
    """What the "fits" column says, and the palette's colour for it."""
    if problem or (outlook and outlook.problem):
        return "no", "error"
    match outlook.fits if outlook else None:
        case Fits.GPU:
            return "GPU", "success"
        case Fits.GPU_RAM:
            return ("GPU+RAM", "warning") if outlook and outlook.has_gpu else ("RAM", "success")
        case Fits.DISK:
            return "disk", "warning"
        case Fits.NO:
            return "no", "error"
        case _:
            return "…", "muted"
