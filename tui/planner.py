"""Plans one model again and again: its folder is looked at once, its bytes added up once a quantization.

Torch-free arithmetic of the engine's front door, for the process that draws the screen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

import engine
from engine.values import BudgetRequest, Placement, Quantization
from tui.settled import Settled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from engine import Footprint, MemoryReading, Verdict
    from engine.commands import PlanLoad
    from engine.values import Blueprint, Budget, DeviceLedger, MachineLimits


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """This machine at the moment of a plan.

    Attributes:
        reading: of its memory; None has the plan read it.
        own: what the engine holds now, and a load would give back.
    """

    reading: MemoryReading | None = None
    own: tuple[DeviceLedger, ...] = ()


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A wish and what comes of it.

    Attributes:
        wish: what was asked for.
        placement: where everything would go.
        free: what each device could give without the person's caps.
        longest: the checkpoint's own context window, in tokens.
        is_exact: its bytes come from a dry run, not from closed forms.
        is_measured: its speeds rest on this machine's measured limits.
    """

    wish: PlanLoad
    placement: Placement
    free: tuple[Budget, ...] = ()
    longest: int
    is_exact: bool = False
    is_measured: bool = False


class Planner:
    """Plans one model; slow at its first plan, and then quick. Not for two threads at once."""

    def __init__(self, folder: Path, machine: Callable[[], Machine], adapter: Path | None = None) -> None:
        """Prepare; the folder is looked at by the first plan.

        Args:
            folder: of the model.
            machine: this machine's memory now.
            adapter: folder of the one that is merged into the model.
        """
        self._adapter = adapter
        self.folder = folder
        self._machine = machine
        self._settled = Settled()
        self._verdict: Verdict | None = None
        self._blueprint: Blueprint | None = None
        self._footprints: dict[Quantization, Footprint] = {}
        self._limits: dict[tuple[str, ...], MachineLimits] = {}

    @property
    def needs_blueprint(self) -> bool:
        """The model was looked at, and no dry run of it is known."""
        return self._verdict is not None and self._blueprint is None

    def learn(self) -> None:
        """Look again for a blueprint and for measured limits at the next plan."""
        self._verdict = None
        self._limits.clear()

    def plan(self, wish: PlanLoad) -> Plan:
        """Place the model as wished.

        Raises:
            CheckpointError: the folder says nothing that can be planned.
            InvalidValue: the wish's device_map is wrong.
        """
        verdict = self._looked_at()
        machine = self._machine()
        reading = machine.reading and self._settled.take(machine.reading)
        budgets = engine.live_budgets(wish.budgets, reading, own=machine.own)
        free = engine.live_budgets(BudgetRequest(), reading, own=machine.own)
        limits = self._limits_for(budgets, reading)
        placement = engine.placement_for(
            self._footprint(wish.quantization),
            budgets,
            wish.context_window,
            wish.budgets.disk_folder,
            limits=limits,
            strategy=wish.strategy,
            device_map=wish.device_map,
            other=self._footprint,
        )
        return Plan(
            wish=wish,
            placement=placement,
            free=tuple({budget.device: budget for budget in (*budgets, *free)}.values()),
            longest=verdict.config.context_window,
            is_exact=self._blueprint is not None,
            is_measured=limits.measured_at > 0,
        )

    def _looked_at(self) -> Verdict:
        if self._verdict is None:
            self._footprints.clear()
            self._blueprint = engine.known_blueprint(self.folder)
            self._verdict = engine.look_at(self.folder, self._adapter)
        return self._verdict

    def _limits_for(self, budgets: Sequence[Budget], reading: MemoryReading | None) -> MachineLimits:
        gpus = tuple(f"{budget.device} {budget.uuid} {budget.total_bytes}" for budget in budgets)
        if gpus not in self._limits:
            self._limits[gpus] = engine.machine_limits(budgets, reading.ram if reading else None)
        return self._limits[gpus]

    def _footprint(self, quantization: Quantization) -> Footprint:
        if quantization not in self._footprints:
            verdict = self._looked_at()
            self._footprints[quantization] = engine.footprint_of(verdict, quantization, self._blueprint)
        return self._footprints[quantization]
