"""The plan that the chat opens, with a scripted engine and a folder that can be planned."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.commands import DryRun, MeasureLimits
from engine.values import Quantization
from tests.tui.chat_support import ChatPilot, chat_pilot
from tests.tui.verbs import folders
from tui.screens.dialog import Line
from tui.screens.models import ModelsScreen
from tui.screens.plan import PlanScreen

HELLO = {"text": "You said: {prompt}", "tokens_per_second": 0}
SLOW = {"text": "word " * 400, "tokens_per_second": 40}


def plan_of(running: ChatPilot) -> PlanScreen:
    screen = running.app.screen
    assert isinstance(screen, PlanScreen)
    return screen


async def opened(running: ChatPilot, *keys: str) -> PlanScreen:
    """The plan, as soon as one is shown."""
    if keys:
        await running.pilot.press(*keys)
    await running.until(lambda: isinstance(running.app.screen, PlanScreen), "the plan's screen", 5)
    screen = plan_of(running)
    await running.until(lambda: screen.state.is_settled, "the plan")
    return screen


def said(screen: PlanScreen) -> str:
    return str(screen.query_one("#say", Line).content)


async def test_the_loaded_model_is_planned_anew_and_loaded_as_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders.sound(tmp_path / "toy")
    async with chat_pilot(tmp_path, monkeypatch, replies=[HELLO], load={"context_window": 4096}) as running:
        await running.until(lambda: running.is_idle, "the model")
        screen = await opened(running, "f2")
        assert screen.state.is_loaded
        await running.pilot.press("left", "q")
        await running.until(lambda: screen.state.is_settled, "the plan")
        assert screen.state.wish.context_window == 2048
        await running.pilot.press("enter")
        loaded = running.app.bridge
        await running.until(lambda: loaded.loaded and loaded.loaded.context_window == 2048, "the load")
        assert loaded.wish is not None
        assert loaded.wish.quantization is Quantization.INT8


async def test_what_the_engine_holds_and_how_fast_it_was_stand_beside_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders.sound(tmp_path / "toy")
    async with chat_pilot(tmp_path, monkeypatch, replies=[HELLO]) as running:
        await running.until(lambda: running.is_idle, "the model")
        await running.ask("hello")
        screen = await opened(running, "f2")
        await running.until(lambda: "ram" in screen.state.held, "a reading")
        assert screen.state.usage == running.app.bridge.usage
        assert screen.state.held["ram"].peak > 0


async def test_a_named_model_is_planned_in_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = folders.sound(tmp_path / "other")
    async with chat_pilot(tmp_path, monkeypatch, replies=[HELLO]) as running:
        await running.until(lambda: running.is_idle, "the model")
        await running.type(f"/plan {other}")
        screen = await opened(running)
        assert not screen.state.is_loaded
        await running.pilot.press("enter")
        bridge = running.app.bridge
        await running.until(lambda: bridge.loaded and bridge.loaded.model.folder == other, "the load")


async def test_a_plan_asks_an_idle_engine_once_for_a_dry_run_and_once_to_measure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders.sound(tmp_path / "toy")
    async with chat_pilot(tmp_path, monkeypatch, replies=[HELLO]) as running:
        await running.until(lambda: running.is_idle, "the model")
        bridge, asked = running.app.bridge, list[str]()
        look = bridge._look

        def noted(command: DryRun | MeasureLimits) -> int:
            asked.append(type(command).__name__)
            return look(command)

        monkeypatch.setattr(bridge, "_look", noted)
        screen = await opened(running, "f2")
        await running.until(lambda: asked == ["DryRun", "MeasureLimits"] and bridge.is_idle, "both")
        await running.pilot.press("left", "right")
        await running.until(lambda: screen.state.is_settled, "the plan")
        assert asked == ["DryRun", "MeasureLimits"]
        assert said(screen) == ""
        await running.pilot.press("m")
        await running.until(lambda: "this engine is scripted" in said(screen), "why not")
        assert not running.screen.banner.is_shown


async def test_nothing_is_asked_beside_a_reply_until_it_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders.sound(tmp_path / "toy")
    async with chat_pilot(tmp_path, monkeypatch, replies=[SLOW]) as running:
        await running.until(lambda: running.is_idle, "the model")
        await running.type("talk")
        bridge = running.app.bridge
        await running.until(lambda: bridge.answering, "the reply")
        screen = await opened(running, "f2")
        await running.pilot.press("m")
        await running.until(lambda: "The engine is busy" in said(screen), "the answer")
        assert bridge.looking == 0
        assert bridge.answering


async def test_a_folder_that_cannot_be_planned_is_still_shown_as_it_was_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with chat_pilot(tmp_path, monkeypatch, replies=[HELLO]) as running:
        await running.until(lambda: running.is_idle, "the model")
        screen = await opened(running, "f2")
        await running.until(lambda: not screen._is_planning, "the look")
        assert said(screen) == ""
        await running.pilot.press("left")
        await running.until(lambda: "no config.json" in said(screen), "why not")


async def test_f2_in_the_picker_opens_the_chosen_models_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with chat_pilot(tmp_path, monkeypatch, replies=[HELLO]) as running:
        await running.until(lambda: running.is_idle, "the model")
        await running.pilot.press("ctrl+o")
        await running.until(lambda: isinstance(running.app.screen, ModelsScreen), "the picker", 5)
        await running.pilot.press(*"guide")
        await running.pilot.pause(0.3)
        screen = await opened(running, "f2")
        assert screen.state.wish.model.name == "guide"
        assert screen.state.plan is not None
        assert screen.state.plan.placement.forecast is not None
