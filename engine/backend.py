"""What a library that runs models has to offer the engine thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from engine.commands import DryRun, Generate, Inspect, LoadModel, PlanLoad
from engine.events import DryRunDone, Event, Inspected, LimitsMeasured, ModelLoaded, Planned

Emit = Callable[[Event], None]
"""Sends an event at once, from the engine thread; progress and ledgers go this way."""

Cancelled = Callable[[], bool]
"""True as soon as the command that is running should stop; cheap enough for every token."""


class Backend(Protocol):
    """Runs one model at a time; called from the engine thread only. Errors are EngineErrors.

    The engine fills in `seq` and `turn_id` of every event.
    """

    def inspect(self, command: Inspect) -> Inspected:
        """Say what a model folder holds, without loading it."""

    def dry_run(self, command: DryRun) -> DryRunDone:
        """Say what a model is made of, from its class on no device."""

    def measure_limits(self, cancelled: Cancelled) -> LimitsMeasured:
        """Measure this machine; raise LoadCancelled when cancelled."""

    def plan(self, command: PlanLoad) -> Planned:
        """Place a model's layers against the budgets, without loading it."""

    def load(self, command: LoadModel, emit: Emit, cancelled: Cancelled) -> ModelLoaded:
        """Load a model in place of the one before, which is gone even where this fails.

        Raises LoadCancelled when cancelled, and NeedsConsent, which alone leaves the one before loaded.
        """

    def generate(self, command: Generate, cancelled: Cancelled) -> Iterator[Event]:
        """Yield TurnStarted, then PrefillProgress, TextDelta, MemoryLedger, and last TurnFinished."""

    def unload(self) -> None:
        """Drop the model and give its memory back as far as a living process can."""
