"""What loads and replies really took, against what was predicted: later forecasts are corrected by it."""

from __future__ import annotations

import math
import os

import msgspec

from engine.plan.footprint import Footprint
from engine.plan.forecast import Pace, forecast_of, ratio_key
from engine.plan.kept import FARTHEST, keep_ratios, kept_ratios
from engine.plan.limits import machine_key, machine_limits
from engine.ram import read_ram
from engine.values import Budget, Placement, TurnUsage

LEAST_TOKENS = 32
"""Of a reply whose speed is learned: its first tokens are slower than the rest."""
LEAST_READ_SHARE = 0.8
"""Of its weights, what the disk delivered during a load whose time is learned."""
_WEIGHT = 0.5
"""Of the newest ratio in the average."""


class Lessons:
    """Compares one loaded model with its forecast, and keeps how far off that was."""

    def __init__(self, footprint: Footprint, placement: Placement) -> None:
        """Predict once more, from the machine's limits alone.

        Args:
            footprint: of the model.
            placement: as it was loaded.
        """
        budgets = [Budget(device=d.device, free_bytes=0, uuid=d.uuid) for d in placement.devices]
        self._limits = msgspec.structs.replace(machine_limits(budgets, read_ram(os.getpid())), learned={})
        self._footprint = footprint
        self._placement = placement
        self._key = ratio_key(footprint, placement.layers)
        self._pace = Pace(footprint, self._limits)

    def note_load(self, seconds: float, read_bytes: int) -> None:
        """Learn from a load, where its files came from the disk.

        Args:
            seconds: it took.
            read_bytes: that the disk delivered meanwhile.
        """
        if read_bytes < LEAST_READ_SHARE * sum(m.plain_bytes for m in self._footprint.modules):
            return
        placement = self._placement
        predicted = forecast_of(self._footprint, placement.layers, placement.context_window, self._limits)
        self._keep(load=seconds / predicted.load_seconds)

    def note_turn(self, usage: TurnUsage) -> None:
        """Learn from a reply, where it was long enough and took a forward for every token."""
        if usage.completion_tokens < LEAST_TOKENS or usage.decode_tps <= 0 or usage.guessed_tokens:
            return
        middle = usage.context_used - usage.completion_tokens // 2
        predicted = self._pace.step_seconds(self._placement.layers, middle)
        self._keep(step=1 / usage.decode_tps / predicted)

    def _keep(self, *, step: float | None = None, load: float | None = None) -> None:
        machine = machine_key()
        ratios = kept_ratios(machine)
        before = ratios.pop(self._key, (1.0, 1.0))
        ratios[self._key] = (_averaged(before[0], step), _averaged(before[1], load))
        keep_ratios(machine, ratios)


def _averaged(before: float, newest: float | None) -> float:
    if newest is None:
        return before
    mean = math.exp((1 - _WEIGHT) * math.log(before) + _WEIGHT * math.log(newest))
    return min(FARTHEST, max(1 / FARTHEST, mean))
