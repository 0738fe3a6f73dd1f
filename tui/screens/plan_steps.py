"""What a key changes of a wish in the plan: steps of context, weights, strategy and caps. Knows no screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from msgspec.structs import replace

from engine.values import BudgetRequest, Quantization, Strategy
from tui.format import MIB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.commands import PlanLoad
    from engine.values import Alternative

SHORTEST_CONTEXT = 512
_STRATEGIES = (Strategy.AUTO, Strategy.BALANCED, Strategy.SEQUENTIAL)
_SMALLEST_STEP = 64 * MIB
_STEPS_OF_A_CAP = 32

T = TypeVar("T")


def context_steps(longest: int) -> list[int]:
    """512, doubled until the longest window, which is the last."""
    steps = []
    step = SHORTEST_CONTEXT
    while step < longest:
        steps.append(step)
        step *= 2
    return [*steps, longest]


def stepped_context(now: int, longest: int, direction: int) -> int:
    """The next step above or below a window that may lie between two of them."""
    steps = context_steps(longest)
    if direction > 0:
        return next((step for step in steps if step > now), steps[-1])
    return next((step for step in reversed(steps) if step < now), steps[0])


def next_quantization(wish: PlanLoad) -> PlanLoad:
    """none, int8, nf4, and none again."""
    return replace(wish, quantization=_after(tuple(Quantization), wish.quantization))


def next_strategy(wish: PlanLoad) -> PlanLoad:
    """auto, balanced, sequential, and auto again; a device_map is left behind."""
    now = wish.strategy if wish.strategy in _STRATEGIES else _STRATEGIES[-1]
    return replace(wish, strategy=_after(_STRATEGIES, now), device_map=())


def _after(values: Sequence[T], now: T) -> T:
    return values[(values.index(now) + 1) % len(values)]


def cap_of(budgets: BudgetRequest, device: str) -> int | None:
    """The person's cap of one device ("gpu:0", "ram", "disk") in bytes; None for none."""
    if device == "ram":
        return budgets.ram_bytes
    if device == "disk":
        return budgets.disk_bytes
    return dict(budgets.gpu).get(_gpu_index(device))


def with_cap(budgets: BudgetRequest, device: str, cap: int | None) -> BudgetRequest:
    """The same with another cap of one device; None takes it off."""
    if device == "ram":
        return replace(budgets, ram_bytes=cap)
    if device == "disk":
        return replace(budgets, disk_bytes=cap)
    index = _gpu_index(device)
    others = [pair for pair in budgets.gpu if pair[0] != index]
    mine = [] if cap is None else [(index, cap)]
    return replace(budgets, gpu=tuple(sorted([*others, *mine])))


def _gpu_index(device: str) -> int:
    return int(device.partition(":")[2])


def cap_step(room: int) -> int:
    """A round size of which a device's room holds at most some dozens."""
    step: int = _SMALLEST_STEP
    while step * _STEPS_OF_A_CAP < room:
        step *= 2
    return step


def stepped_cap(cap: int | None, room: int, direction: int) -> int | None:
    """The next round cap above or below; None where that is all the device has.

    Args:
        cap: now, in bytes; None for none.
        room: what the device could give without one.
        direction: 1 raises, -1 lowers.
    """
    step = cap_step(room)
    now = room if cap is None else min(cap, room)
    if direction < 0:
        return max(0, (now - 1) // step * step)
    above = (now // step + 1) * step
    return above if above < room else None


def with_alternative(wish: PlanLoad, alternative: Alternative) -> PlanLoad:
    """The same as an alternative has it; a cap that stands in its way is taken off."""
    budgets = wish.budgets
    if alternative.ram_bytes:
        budgets = replace(budgets, ram_bytes=None)
    if alternative.disk_bytes:
        budgets = replace(budgets, disk_bytes=None)
    return replace(
        wish,
        context_window=alternative.context_window,
        quantization=alternative.quantization,
        budgets=budgets,
    )
