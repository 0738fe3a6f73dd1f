"""What the plan screen shows: a wish, the plan that came of it, and what is chosen. Knows no screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from engine.values import DevicePlan, Quantization, Strategy
from tui.format import GIB, format_size, format_tokens
from tui.planner import Plan
from tui.screens.plan_steps import cap_of, stepped_cap, stepped_context, with_alternative, with_cap
from tui.widgets.placement_view import PlanPage
from tui.widgets.plan_bar import DeviceView, Held
from tui.widgets.plan_controls import Control
from tui.widgets.plan_forecast import Speeds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.commands import PlanLoad
    from engine.events import ModelLoaded
    from engine.values import Alternative, Budget, Placement, TurnUsage

_LINES_OF_A_DEVICE, _LINES_OF_THE_REST = 4, 24
_ALWAYS = ("ram", "disk")
_IMAGINED_BYTES = 192 * GIB
"""The most that keys give to a GPU that this machine does not have; more can be typed."""
_QUANTIZED = {Quantization.NONE: "as stored", Quantization.INT8: "int8", Quantization.NF4: "nf4"}
_MAPPED = {Strategy.CUSTOM: "your own map"}


def _as_loaded(loaded: Placement, planned: Placement) -> Placement:
    """What was loaded, with what is known better by now of the same layers."""
    if planned.layers != loaded.layers:
        return loaded
    return replace(loaded, forecast=planned.forecast, alternatives=planned.alternatives)


class PlanState:
    """The wish that keys change, beside the newest plan.

    Attributes:
        wish: what is asked for now.
        plan: the newest one; its wish may be an older one. None before the first.
        chosen: a device, or behind the devices an alternative.
        held: by device, what the engine holds of the loaded model.
        usage: of the loaded model's last reply.
    """

    def __init__(self, wish: PlanLoad, loaded: ModelLoaded | None = None) -> None:
        """Begin with a wish.

        Args:
            wish: what is asked for first.
            loaded: the model where it is the one that runs, and runs as the wish says.
        """
        self.wish = wish
        self.plan: Plan | None = None
        self.chosen = 0
        self.held: Mapping[str, Held] = {}
        self.usage: TurnUsage | None = None
        self._loaded: ModelLoaded | None = None
        self._loaded_wish: PlanLoad | None = None
        if loaded is not None:
            self.run(loaded)

    def run(self, loaded: ModelLoaded) -> None:
        """Take it that the model runs now as the wish says, whose plan is what was loaded."""
        self.wish = replace(self.wish, context_window=loaded.context_window)
        self._loaded, self._loaded_wish = loaded, self.wish
        longest = max(loaded.max_context_window, loaded.context_window)
        self.take(Plan(wish=self.wish, placement=loaded.placement, free=self._free(), longest=longest))

    def stop(self) -> None:
        """Take it that no model runs."""
        self._loaded = self._loaded_wish = None

    def take(self, plan: Plan) -> None:
        """Show this plan; what runs already is shown as it was loaded."""
        if self._loaded is not None and plan.wish == self._loaded_wish:
            plan = replace(plan, placement=_as_loaded(self._loaded.placement, plan.placement))
        self.plan = plan
        self.chosen = min(self.chosen, self._choices() - 1)

    @property
    def is_loaded(self) -> bool:
        """What is asked for is what runs."""
        return self.wish == self._loaded_wish

    @property
    def is_settled(self) -> bool:
        """The plan that is shown is of this wish."""
        return self.plan is not None and self.plan.wish == self.wish

    @property
    def devices(self) -> tuple[DevicePlan, ...]:
        """Those of the plan, and those that a cap of 0 left out."""
        planned = self.plan.placement.devices if self.plan else ()
        names = {device.device for device in planned}
        out = (budget for budget in self._free() if budget.device not in names)
        return (*planned, *(DevicePlan(device=b.device, budget_bytes=0, label=b.label) for b in out))

    def _free(self) -> tuple[Budget, ...]:
        return self.plan.free if self.plan else ()

    @property
    def alternatives(self) -> tuple[Alternative, ...]:
        """What else could be done."""
        return self.plan.placement.alternatives if self.plan else ()

    @property
    def device(self) -> DevicePlan | None:
        """The chosen device; None where an alternative is chosen, or nothing is there."""
        return self.devices[self.chosen] if self.chosen < len(self.devices) else None

    def _choices(self) -> int:
        return max(1, len(self.devices) + len(self.alternatives))

    def choose(self, direction: int) -> None:
        """Move the mark; it stays at the ends."""
        self.chosen = max(0, min(self.chosen + direction, self._choices() - 1))

    def step_context(self, direction: int) -> None:
        """Ask for a longer or a shorter context window."""
        if self.plan is not None:
            now = self.wish.context_window or self.plan.placement.context_window
            self.wish = replace(self.wish, context_window=stepped_context(now, self.plan.longest, direction))

    def step_cap(self, direction: int) -> None:
        """Raise or lower the chosen device's cap."""
        device = self.device
        if device is not None:
            cap = cap_of(self.wish.budgets, device.device)
            room = self._room(device) if device.uuid or device.device in _ALWAYS else _IMAGINED_BYTES
            self.cap(stepped_cap(cap, max(room, cap or 0), direction))

    def cap(self, size: int | None) -> None:
        """Give the chosen device a cap in bytes, or none."""
        if self.device is not None:
            self.wish = replace(self.wish, budgets=with_cap(self.wish.budgets, self.device.device, size))

    def alternative(self, number: int | None = None) -> Alternative | None:
        """The one of that number, the chosen one by default; None where there is none."""
        at = self.chosen - len(self.devices) if number is None else number - 1
        return self.alternatives[at] if 0 <= at < len(self.alternatives) else None

    def lacks(self, alternative: Alternative) -> bool:
        """It takes more than this machine has, and no cap of the person's stands in its way."""
        budgets = self.wish.budgets
        needs_ram = alternative.ram_bytes and budgets.ram_bytes is None
        return bool(needs_ram or (alternative.disk_bytes and budgets.disk_bytes is None))

    def take_alternative(self, alternative: Alternative) -> None:
        """Ask for it."""
        self.wish = with_alternative(self.wish, alternative)
        self.chosen = 0

    def _room(self, device: DevicePlan) -> int:
        rooms = (budget.free_bytes for budget in self._free() if budget.device == device.device)
        return next(rooms, device.budget_bytes)

    def page(self, lines: int) -> PlanPage | None:
        """What the page shows of the plan, on a screen of so many lines; None before there is one."""
        if self.plan is None:
            return None
        devices = tuple(self._view(device) for device in self.devices)
        is_compact = len(devices) * _LINES_OF_A_DEVICE > lines - _LINES_OF_THE_REST
        return PlanPage(self.plan.placement, devices, self.chosen, is_compact)

    def _view(self, device: DevicePlan) -> DeviceView:
        wish = self.plan.wish if self.plan else self.wish
        is_capped = cap_of(wish.budgets, device.device) is not None
        held = self.held.get(device.device) if wish == self._loaded_wish else None
        return DeviceView(device, self._room(device), is_capped, held)

    def keys(self, *, is_typing: bool = False) -> str:
        """What Enter and the numbers do now, or while a cap is typed."""
        if is_typing:
            return f"the most that {self._chosen_name()} may give: 20GiB · Enter take · Esc back"
        last = min(9, len(self.alternatives))
        others = f"1{f'-{last}' if last > 1 else ''} choose · " if last else ""
        return f"{others}= type a cap · 0 no cap · {'' if self.is_loaded else 'Enter load · '}Esc close"

    def speeds(self) -> Speeds | None:
        """What is said of the plan's speed; None before there is one."""
        if self.plan is None:
            return None
        usage = self.usage if self.plan.wish == self._loaded_wish else None
        return Speeds(self.plan.placement, self.plan.is_exact, usage)

    def controls(self) -> list[Control]:
        """Everything that keys change, with its value."""
        return [
            Control("← →", "context", self._context()),
            Control("q", "weights", self._weights()),
            Control("s", "strategy", _MAPPED.get(self.wish.strategy, self.wish.strategy.value)),
            Control("↑ ↓", "device", self._chosen_name()),
            Control("[ ]", "cap", self._cap_value()),
            Control("m", "speeds", self._basis()),
        ]

    def _weights(self) -> str:
        placement = self.plan.placement if self.plan and self.is_settled else None
        is_applied = placement is None or placement.quantization is self.wish.quantization
        return _QUANTIZED[self.wish.quantization] + ("" if is_applied else ", not applied")

    def _basis(self) -> str:
        return "measured here" if self.plan and self.plan.is_measured else "typical figures"

    def _context(self) -> str:
        if self.plan is None:
            return format_tokens(self.wish.context_window) if self.wish.context_window else ""
        now = self.wish.context_window or self.plan.placement.context_window
        return f"{format_tokens(now)} of {format_tokens(self.plan.longest)}"

    def _chosen_name(self) -> str:
        if self.device is not None:
            return self.device.device.replace("gpu:", "GPU ").replace("ram", "RAM")
        return f"number {self.chosen - len(self.devices) + 1}" if self.devices else ""

    def _cap_value(self) -> str:
        if self.device is None:
            return ""
        cap = cap_of(self.wish.budgets, self.device.device)
        return "none" if cap is None else format_size(cap)
