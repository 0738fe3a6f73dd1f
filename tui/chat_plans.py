"""The plan that the chat opens: what it is planned with, and what the engine is asked beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from engine.commands import LoadModel, PlanLoad
from tui.planner import Machine, Planner

if TYPE_CHECKING:
    from engine.events import DryRunDone, Failed, LimitsMeasured, ModelLoaded
    from engine.values import ModelRef
    from tui.chat import Chat
    from tui.screens.plan import PlanScreen

_MEASURING = "Measuring this machine (6 s) …"
_BUSY = "The engine is busy; press m again when it has answered."


class ChatPlans:
    """Opens plans, one at a time, and makes them exact while the engine has nothing else to do."""

    def __init__(self, chat: Chat) -> None:
        """Plan for this chat."""
        self._chat = chat
        self._bridge = chat.bridge
        self._screen: PlanScreen | None = None
        self._planner: Planner | None = None
        self._asked: set[str] = set()
        self._looking = 0
        self._is_wish = False

    def open(self, model: ModelRef) -> None:
        """Show the plan of a model; what is chosen there is loaded."""
        from tui.screens.plan import PlanScreen

        loaded = self._bridge.loaded
        runs = loaded if loaded is not None and loaded.model == model else None
        self._planner = Planner(model.folder, self.machine, model.adapter)
        self._asked.clear()
        self._screen = PlanScreen(self._wish(model), self._planner.plan, runs, host=self)
        self._chat.screen.app.push_screen(self._screen, self._take)
        self.show_measured()

    def _wish(self, model: ModelRef) -> PlanLoad:
        """What a load of this model would be asked with; for the one of before, what it was asked with."""
        wish, options = self._bridge.wish, self._bridge.options
        if wish is not None and wish.model == model:
            fields = {name: getattr(wish, name) for name in PlanLoad.__struct_fields__ if name != "turn_id"}
            return PlanLoad(**fields)
        return PlanLoad(
            model=model,
            context_window=options.context_window,
            quantization=options.quantization,
            budgets=options.budgets,
        )

    def machine(self) -> Machine:
        """This machine's memory now, and what of it the engine would give back."""
        return Machine(reading=self._bridge.reading, own=self._bridge.holdings.own)

    def _take(self, wish: PlanLoad | None) -> None:
        self._screen = self._planner = None
        if wish is not None:
            self._chat.loader.load_as_planned(LoadModel(**msgspec.structs.asdict(wish)))

    def planned(self) -> None:
        """While a plan is open and the engine idle, have it build the model on no device, then measure."""
        screen, planner = self._screen, self._planner
        if screen is None or planner is None or not self._bridge.is_idle:
            return
        plan = screen.state.plan
        if planner.needs_blueprint and self._is_first("blueprint"):
            self._looking, self._is_wish = self._bridge.dry_run(planner.folder), False
        elif plan is not None and not plan.is_measured and self._is_first("limits"):
            self._measure_now()

    def _is_first(self, wish: str) -> bool:
        """Whether this plan has not asked for it yet."""
        is_first = wish not in self._asked
        self._asked.add(wish)
        return is_first

    def measure(self) -> str:
        """Measure on the person's wish; a sentence about it."""
        if not self._bridge.is_idle:
            return _BUSY
        self._measure_now()
        self._is_wish = True
        return _MEASURING

    def _measure_now(self) -> None:
        self._looking, self._is_wish = self._bridge.measure(), False
        if self._screen is not None:
            self._screen.say(_MEASURING)

    def learned(self, event: DryRunDone | LimitsMeasured) -> None:
        """The engine knows the model or the machine better."""
        if self._screen is None or self._planner is None or event.turn_id != self._looking:
            return
        self._planner.learn()
        self._screen.replan()

    def failed(self, event: Failed) -> bool:
        """Take it that what was asked beside the chat did not come; False where it was something else."""
        if event.turn_id != self._looking:
            return False
        if self._screen is not None:
            self._screen.say(event.message if self._is_wish else "", is_warning=self._is_wish)
            self.planned()
        return True

    def loaded(self, event: ModelLoaded) -> None:
        """A model runs; where its plan is open, it is the plan of what runs."""
        if self._screen is not None and self._screen.state.wish.model == event.model:
            self._screen.show_loaded(event)
        self.planned()

    def unloaded(self) -> None:
        """No model runs any more."""
        if self._screen is not None:
            self._screen.show_unloaded()

    def show_measured(self) -> None:
        """Tell an open plan what the engine holds, and how fast it was last."""
        if self._screen is not None and self._bridge.loaded is not None:
            self._screen.show_measured(self._bridge.holdings.held(), self._bridge.usage)
