from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace
from textual.containers import VerticalScroll

from engine.commands import PlanLoad
from engine.errors import NotACheckpoint
from engine.events import ModelLoaded
from engine.values import BudgetRequest, Fits, Quantization, SamplingParams, Strategy, TurnUsage
from tests.tui.readings import GIB, Shown
from tests.tui.screens.entries import PLACEMENT, WISH, plan_of
from tui.planner import Plan
from tui.screens.dialog import Line
from tui.screens.plan import PlanScreen
from tui.widgets.placement_view import PlacementView
from tui.widgets.plan_bar import Held
from tui.widgets.row_view import RowView

if TYPE_CHECKING:
    from textual.pilot import Pilot

LOADED = ModelLoaded(
    model=WISH.model,
    placement=PLACEMENT,
    context_window=32768,
    max_context_window=40960,
    dtype="bfloat16",
    architecture="Qwen3ForCausalLM",
    parameters=8_190_735_360,
    load_seconds=4.0,
    sampling=SamplingParams(),
)


class Asked:
    """Who opened a plan, and what it was asked."""

    def __init__(self) -> None:
        self.plans = 0
        self.measures = 0

    def planned(self) -> None:
        self.plans += 1

    def measure(self) -> str:
        self.measures += 1
        return "Measuring this machine (6 s) …"


class Opened:
    """A plan on a screen: what was planned, and what it gave back."""

    def __init__(self, plan: Callable[[PlanLoad], Plan] = plan_of, loaded: ModelLoaded | None = None) -> None:
        self.app = Shown()
        self.wishes: list[PlanLoad] = []
        self.results: list[PlanLoad | None] = []
        self.host = Asked()
        self._plan = plan
        self.screen = PlanScreen(WISH, self.plan, loaded, host=self.host)

    def plan(self, wish: PlanLoad) -> Plan:
        self.wishes.append(wish)
        return self._plan(wish)

    async def open(self, pilot: Pilot[None]) -> None:
        self.app.push_screen(self.screen, self.results.append)
        await self.settle(pilot)

    async def settle(self, pilot: Pilot[None]) -> None:
        await pilot.pause()
        await self.app.workers.wait_for_complete()
        await pilot.pause()

    async def press(self, pilot: Pilot[None], *keys: str) -> None:
        await pilot.press(*keys)
        await self.settle(pilot)

    @property
    def wish(self) -> PlanLoad:
        return self.screen.state.wish

    def text(self, selector: str) -> str:
        view = self.screen.query_one(selector, RowView)
        return "\n".join(view.render_line(y).text.rstrip() for y in range(view.size.height))

    def said(self) -> str:
        line = self.screen.query_one("#say", Line)
        return str(line.content) if line.display else ""


async def test_the_context_window_goes_up_and_down_in_steps_to_the_models_own() -> None:
    opened = Opened()
    async with opened.app.run_test(size=(120, 40)) as pilot:
        await opened.open(pilot)
        assert "32,768 of 40,960" in opened.text("#controls")
        windows = []
        for key in ("left", "minus", "right", "plus", "right"):
            await opened.press(pilot, key)
            windows.append(opened.wish.context_window)
        assert windows == [16384, 8192, 16384, 32768, 40960]
        assert "40,960 of 40,960" in opened.text("#controls")
        assert opened.screen.state.is_settled


async def test_q_and_s_cycle_the_quantization_and_the_strategy() -> None:
    opened = Opened()
    async with opened.app.run_test(size=(120, 40)) as pilot:
        await opened.open(pilot)
        await opened.press(pilot, "q", "q", "s")
        assert opened.wish.quantization is Quantization.NF4
        assert opened.wish.strategy is Strategy.BALANCED
        shown = opened.text("#controls")
        assert "nf4" in shown
        assert "balanced" in shown
        await opened.press(pilot, "q", "s", "s")
        assert opened.wish == WISH


async def test_the_chosen_devices_cap_is_lowered_raised_typed_and_taken_off() -> None:
    opened = Opened()
    async with opened.app.run_test(size=(120, 40)) as pilot:
        await opened.open(pilot)
        await opened.press(pilot, "left_square_bracket")
        assert dict(opened.wish.budgets.gpu) == {0: 17 * GIB}
        assert "cap 17.0" in opened.text("PlacementView")
        await opened.press(pilot, "right_square_bracket")
        assert opened.wish.budgets == BudgetRequest()
        await opened.press(pilot, "down", "left_square_bracket")
        assert opened.wish.budgets.ram_bytes == 23 * GIB
        await opened.press(pilot, "0")
        assert opened.wish.budgets == BudgetRequest()
        await opened.press(pilot, "equals_sign", *"20GiB", "enter")
        assert opened.wish.budgets.ram_bytes == 20 * GIB
        assert "20.0 GiB" in opened.text("#controls")
        assert opened.results == []


async def test_while_a_size_is_typed_keys_are_text_and_escape_leaves_it() -> None:
    opened = Opened()
    async with opened.app.run_test(size=(120, 40)) as pilot:
        await opened.open(pilot)
        await opened.press(pilot, "equals_sign", "q", "s", "1", "down", "enter")
        assert opened.wish == WISH
        assert "is not a size" in opened.said()
        await opened.press(pilot, "escape")
        assert opened.results == []
        await opened.press(pilot, "q")
        assert opened.wish.quantization is Quantization.INT8
        await opened.press(pilot, "escape")
        assert opened.results == [None]


async def test_another_plan_is_taken_by_its_number_or_by_enter_on_it() -> None:
    opened = Opened()
    async with opened.app.run_test(size=(120, 40)) as pilot:
        await opened.open(pilot)
        await opened.press(pilot, "2")
        assert opened.wish.context_window == 4096
        await opened.press(pilot, "9")
        assert opened.wish.context_window == 4096
        await opened.press(pilot, "down", "down", "down", "down", "enter")
        assert (opened.wish.quantization, opened.wish.context_window) == (Quantization.NF4, 32768)
        assert opened.results == []
        await opened.press(pilot, "enter")
        assert opened.results == [opened.wish]


async def test_enter_loads_what_is_shown_and_refuses_what_does_not_fit() -> None:
    opened = Opened(lambda wish: plan_of(wish, replace(PLACEMENT, fits=Fits.NO, layers=())))
    async with opened.app.run_test(size=(80, 24)) as pilot:
        await opened.open(pilot)
        await opened.press(pilot, "enter")
        assert opened.results == []
        assert opened.said().startswith("It does not fit like this")
        assert "what would make it fit" in opened.text("PlacementView")


async def test_wishes_that_were_passed_by_are_not_planned() -> None:
    opened = Opened()
    async with opened.app.run_test(size=(120, 40)) as pilot:
        await opened.open(pilot)
        before = len(opened.wishes)
        for _ in range(30):
            opened.screen.action_step("context", -1)
            opened.screen.action_step("context", 1)
        await opened.settle(pilot)
        assert len(opened.wishes) - before <= 2
        assert opened.screen.state.is_settled


async def test_a_folder_that_cannot_be_planned_is_a_sentence() -> None:
    def refuse(_: PlanLoad) -> Plan:
        raise NotACheckpoint("There is no config.json.", "Give another folder.")

    opened = Opened(refuse)
    async with opened.app.run_test(size=(80, 24)) as pilot:
        await opened.open(pilot)
        assert opened.said() == "There is no config.json. Give another folder."
        assert opened.host.plans == 1
        await opened.press(pilot, "left", "q", "left_square_bracket", "1", "enter", "down")
        assert opened.results == []


async def test_what_nobody_thought_of_is_a_sentence_too() -> None:
    def fail(_: PlanLoad) -> Plan:
        raise ZeroDivisionError

    opened = Opened(fail)
    async with opened.app.run_test(size=(80, 24)) as pilot:
        await opened.app.push_screen(opened.screen)
        while "could not be planned" not in opened.said():
            await pilot.pause()


async def test_the_loaded_model_is_shown_as_it_was_loaded_with_what_was_measured() -> None:
    opened = Opened(loaded=LOADED)
    async with opened.app.run_test(size=(120, 40)) as pilot:
        await opened.open(pilot)
        held = {"gpu:0": Held(16 * GIB, 33 * GIB // 2)}
        opened.screen.show_measured(held, TurnUsage(decode_tps=6.1, context_used=3000))
        await pilot.pause()
        assert "holds 16.0 GiB now, 16.5 GiB at most, 17.0 GiB predicted" in opened.text("PlacementView")
        assert "measured 6.1 tok/s at 3,000 tokens, 6.6 tok/s predicted" in opened.text("#forecast")
        await opened.press(pilot, "enter")
        assert opened.said() == "It runs like this already."
        await opened.press(pilot, "left")
        assert "holds" not in opened.text("PlacementView")
        await opened.press(pilot, "enter")
        assert opened.results == [opened.wish]


async def test_what_was_planned_becomes_what_runs() -> None:
    opened = Opened()
    async with opened.app.run_test(size=(120, 40)) as pilot:
        await opened.open(pilot)
        opened.screen.show_loaded(LOADED)
        await opened.press(pilot, "enter")
        assert opened.said() == "It runs like this already."


async def test_what_runs_no_longer_can_be_loaded_again() -> None:
    opened = Opened(loaded=LOADED)
    async with opened.app.run_test(size=(120, 40)) as pilot:
        await opened.open(pilot)
        opened.screen.show_unloaded()
        await opened.press(pilot, "enter")
        assert opened.results == [replace(WISH, context_window=32768)]


async def test_enter_asks_for_the_context_window_that_is_shown() -> None:
    opened = Opened()
    async with opened.app.run_test(size=(120, 40)) as pilot:
        await opened.open(pilot)
        await opened.press(pilot, "enter")
        assert opened.results == [replace(WISH, context_window=32768)]


async def test_m_measures_and_a_machine_that_is_known_better_is_planned_for_again() -> None:
    opened = Opened()
    async with opened.app.run_test(size=(120, 40)) as pilot:
        await opened.open(pilot)
        await opened.press(pilot, "m")
        assert opened.host.measures == 1
        assert opened.said() == "Measuring this machine (6 s) …"
        before = len(opened.wishes)
        opened.screen.replan()
        await opened.settle(pilot)
        assert len(opened.wishes) == before + 1
        assert opened.said() == ""


@pytest.mark.parametrize("size", [(120, 40), (80, 24), (40, 10), (20, 5), (1, 1)])
async def test_every_size_shows_it_and_the_mark_stays_in_sight(size: tuple[int, int]) -> None:
    opened = Opened()
    async with opened.app.run_test(size=size) as pilot:
        await opened.open(pilot)
        await opened.press(pilot, *["down"] * 6, "pagedown", "pageup", *["up"] * 9, *["down"] * 9)
        page, view = opened.screen.query_one(VerticalScroll), opened.screen.query_one(PlacementView)
        chosen = view.chosen_rows()
        if page.size.height > 1:
            assert page.scroll_offset.y <= chosen.y < page.scroll_offset.y + page.size.height


async def test_f2_closes_what_f2_opened() -> None:
    opened = Opened()
    async with opened.app.run_test(size=(80, 24)) as pilot:
        await opened.open(pilot)
        await opened.press(pilot, "f2")
        assert opened.results == [None]
