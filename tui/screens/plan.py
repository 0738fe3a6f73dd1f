"""The plan: what would lie where and how fast it would be, moving with every key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar, Protocol

from msgspec.structs import replace
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Input
from textual.worker import Worker, WorkerState

from engine.errors import EngineError, InvalidValue
from engine.values import Fits
from tui.commands import COMMANDS, Scope
from tui.format import parse_size
from tui.screens.dialog import Dialog, Line, SearchLine
from tui.screens.plan_state import PlanState
from tui.screens.plan_steps import next_quantization, next_strategy
from tui.widgets.placement_view import PlacementView
from tui.widgets.plan_controls import control_rows
from tui.widgets.plan_forecast import forecast_rows
from tui.widgets.row_view import RowView

if TYPE_CHECKING:
    from pathlib import PurePath

    from textual.app import ComposeResult

    from engine.commands import PlanLoad
    from engine.events import ModelLoaded
    from engine.values import Alternative, TurnUsage
    from tui.planner import Plan
    from tui.widgets.plan_bar import Held

MakePlan = Callable[["PlanLoad"], "Plan"]
"""Plans a wish; slow at first, called beside the screen. May raise EngineError."""


class Host(Protocol):
    """Who opened the plan."""

    def planned(self) -> None:
        """A plan is shown; there is time to know the model and the machine better."""

    def measure(self) -> str:
        """Measure this machine on the person's wish; a sentence about it."""


_ACTIONS = {
    "plan_context": (("left,minus", "step('context', -1)"), ("right,plus", "step('context', 1)")),
    "plan_weights": (("q", "weights"),),
    "plan_strategy": (("s", "strategy"),),
    "plan_device": (("up,k", "choose(-1)"), ("down,j", "choose(1)")),
    "plan_cap": (("left_square_bracket", "step('cap', -1)"), ("right_square_bracket", "step('cap', 1)")),
    "plan_no_cap": (("0", "no_cap"),),
    "plan_type_cap": (("equals_sign", "type_cap"),),
    "plan_choose": tuple((str(number), f"take({number})") for number in range(1, 10)),
    "plan_measure": (("m", "measure"),),
    "plan_load": (("enter", "load"),),
    "plan_page": (("pageup", "page(-1)"), ("pagedown", "page(1)")),
}
"""By the command's name, its keys and what they do; `tui/commands.py` declares them."""
_PATIENCE_SECONDS = 0.1


class PlanScreen(Dialog["PlanLoad"]):
    """A plan that keys change; the result is what is to be loaded."""

    AUTO_FOCUS = ""
    CSS_PATH: ClassVar[list[str | PurePath]] = ["dialog.tcss", "plan.tcss"]
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(keys, action, command.title, show=False)
            for command in COMMANDS
            if command.scope is Scope.PLAN
            for keys, action in _ACTIONS[command.name]
        ),
        Binding("f2", "close", show=False),
    ]

    def __init__(
        self,
        wish: PlanLoad,
        plan: MakePlan,
        loaded: ModelLoaded | None = None,
        *,
        host: Host | None = None,
    ) -> None:
        """Show the plan of a wish as soon as it is made.

        Args:
            wish: what is asked for first.
            plan: plans a wish.
            loaded: the model where it is the one that runs, and runs as the wish says.
            host: who opened it; None where there is nobody to ask.
        """
        super().__init__()
        self.state = PlanState(wish, loaded)
        self._plan = plan
        self._host = host
        self._planned: PlanLoad | None = None
        self._is_planning = False
        self._controls = RowView(id="controls")
        self._forecast = RowView(id="forecast")
        self._line = Line(id="say")
        self._view = PlacementView()
        self._page = VerticalScroll(self._view, id="page", can_focus=False)
        self._cap = SearchLine("20GiB", id="cap")

    def compose(self) -> ComposeResult:
        """What keys change, what comes of it, and a page that scrolls."""
        with self.frame(f"plan · {self.state.wish.model.name}", self.state.keys()):
            yield self._controls
            yield self._forecast
            yield self._line
            yield self._page
            yield self._cap

    def on_mount(self) -> None:
        """Draw what is there, and have the rest planned."""
        if self.state.plan is None:
            self.say("Reading the checkpoint's headers …")
        self._draw()
        self.replan()

    def on_resize(self) -> None:
        """Lay everything out for the new width."""
        self.call_after_refresh(self._draw)

    def say(self, text: str, *, is_warning: bool = False) -> None:
        """Say a sentence above the page; an empty one takes it away."""
        self._line.say(text, is_warning=is_warning)

    def replan(self) -> None:
        """Plan the wish again: the machine or the model is known better."""
        self._planned = None
        self._ask()

    def show_loaded(self, loaded: ModelLoaded) -> None:
        """What was planned runs now."""
        self.state.run(loaded)
        self._draw()

    def show_unloaded(self) -> None:
        """Nothing runs any more."""
        self.state.stop()
        self._draw()

    def show_measured(self, held: Mapping[str, Held], usage: TurnUsage | None) -> None:
        """What the engine holds now of the loaded model, and how fast it was."""
        self.state.held, self.state.usage = held, usage
        self._draw()

    def _wish(self, wish: PlanLoad) -> None:
        self.state.wish = wish
        self._ask()

    def _ask(self) -> None:
        """Have the newest wish planned beside the screen; wishes that were passed by are not.

        The wish is drawn with its plan, in one frame, or by itself where the plan takes its time.
        """
        self.set_timer(_PATIENCE_SECONDS, self._draw_controls)
        if not self._is_planning:
            self._is_planning = True
            self.run_worker(self._follow(), group="plan", exit_on_error=False)

    async def _follow(self) -> None:
        while self._planned != self.state.wish:
            self._planned = wish = self.state.wish
            try:
                plan = await asyncio.to_thread(self._plan, wish)
            except (EngineError, OSError) as error:
                self._tell(error)
            else:
                self._take(plan)
        self._is_planning = False

    def _take(self, plan: Plan) -> None:
        self.state.take(plan)
        self.say("")
        self._draw()
        self._tell_host()

    def _tell(self, error: EngineError | OSError) -> None:
        if not self.state.is_loaded:
            self.say(str(error), is_warning=True)
        self._tell_host()

    def _tell_host(self) -> None:
        if self._host is not None:
            self._host.planned()

    def on_worker_state_changed(self, changed: Worker.StateChanged) -> None:
        """Say it where a plan met what nobody thought of."""
        if changed.state is WorkerState.ERROR and changed.worker.group == "plan":
            self._is_planning = False
            self.say(f"It could not be planned: {changed.worker.error!r}", is_warning=True)

    def _draw(self) -> None:
        self._draw_controls()
        speeds = self.state.speeds()
        if speeds is not None:
            self._forecast.show_rows(forecast_rows(speeds, self._forecast.content_size.width))
        page = self.state.page(self.size.height)
        if page is not None:
            self._view.show_page(page)

    def _draw_controls(self) -> None:
        self.show_keys(self.state.keys(is_typing=self.has_class("-typing")))
        self._controls.show_rows(control_rows(self.state.controls(), self._controls.content_size.width))

    def action_step(self, what: str, direction: int) -> None:
        """Make the context window or the chosen device's cap larger or smaller."""
        if what == "context":
            self.state.step_context(direction)
        else:
            self.state.step_cap(direction)
        self._ask()

    def action_weights(self) -> None:
        """Ask for another quantization."""
        self._wish(next_quantization(self.state.wish))

    def action_strategy(self) -> None:
        """Ask for another strategy."""
        self._wish(next_strategy(self.state.wish))

    def action_choose(self, direction: int) -> None:
        """Move the mark, and keep it in sight."""
        self.state.choose(direction)
        self._draw()
        self.call_after_refresh(self._reveal)

    def _reveal(self) -> None:
        self._page.scroll_to_region(self._view.chosen_rows(), animate=False)

    def action_page(self, pages: int) -> None:
        """Scroll the page."""
        self._page.scroll_relative(y=pages * max(1, self._page.size.height - 1), animate=False)

    def action_no_cap(self) -> None:
        """Let the chosen device give all it has."""
        self.state.cap(None)
        self._ask()

    def action_type_cap(self) -> None:
        """Have the chosen device's cap typed."""
        if self.state.device is not None:
            self._type(is_typing=True)

    def _type(self, *, is_typing: bool) -> None:
        self.set_class(is_typing, "-typing")
        self._cap.value = ""
        self.set_focus(self._cap if is_typing else None)
        self._draw_controls()

    def on_input_submitted(self, submitted: Input.Submitted) -> None:
        """Take the size that was typed, or say what is wrong with it."""
        try:
            self.state.cap(parse_size(submitted.value) if submitted.value.strip() else None)
        except InvalidValue as error:
            self.say(str(error), is_warning=True)
            return
        self._type(is_typing=False)
        self._ask()

    def action_close(self) -> None:
        """Leave the size that is typed, or the plan."""
        if self.has_class("-typing"):
            self._type(is_typing=False)
        else:
            self.dismiss(None)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool:  # noqa: ARG002  # Textual's
        """While a size is typed, keys are text."""
        return action == "close" or not self.has_class("-typing")

    def action_take(self, number: int) -> None:
        """Ask for the alternative of that number."""
        alternative = self.state.alternative(number)
        if alternative is not None:
            self._take_other(alternative)

    def _take_other(self, alternative: Alternative) -> None:
        if self.state.lacks(alternative):
            self.say("That takes more than this machine has free now.", is_warning=True)
        else:
            self.state.take_alternative(alternative)
            self._ask()

    def action_measure(self) -> None:
        """Have this machine measured."""
        if self._host is not None:
            self.say(self._host.measure())

    def action_load(self) -> None:
        """Ask for the chosen alternative, or load as planned, or say why not."""
        state = self.state
        alternative = state.alternative()
        if alternative is not None:
            self._take_other(alternative)
        elif state.is_loaded:
            self.say("It runs like this already.")
        elif not state.is_settled or state.plan is None:
            return
        elif state.plan.placement.fits is Fits.NO:
            self.say("It does not fit like this; the numbers show what would make it fit.", is_warning=True)
        else:
            self.dismiss(replace(state.wish, context_window=state.plan.placement.context_window))
