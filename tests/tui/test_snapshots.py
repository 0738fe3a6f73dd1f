"""Pictures of what has no clock and no machine in it; a changed one is looked at before it is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, cast

import pytest

from docs import staged
from engine.events import ModelLoaded
from engine.values import SamplingParams
from tests.tui.readings import Shown, gpu, ledger, reading
from tests.tui.screens.entries import ENTRIES, NOW, REVIEW, WISH, FakeJudge, FakeStore, plan_of
from tui.app import VrambleApp
from tui.bridge import Bridge
from tui.options import ChatOptions
from tui.safe_text import safe, safe_line
from tui.screens.chat import ChatScreen
from tui.screens.consent import ConsentScreen
from tui.screens.help import HelpScreen
from tui.screens.models import ModelsScreen
from tui.screens.plan import PlanScreen
from tui.screens.sessions import SessionsScreen
from tui.settings import Settings
from tui.widgets.context_meter import ContextUse
from tui.widgets.memory_panel import MemoryPanel
from tui.widgets.status_line import Status
from tui.widgets.title_line import describe_model
from tui.widgets.turn import PastTurn
from tui.widgets.turn_parts import TurnMark

if TYPE_CHECKING:
    from textual.app import App
    from textual.pilot import Pilot
    from textual.screen import Screen

    from sessions import SessionStore

SIZES = [(120, 40), (80, 24)]


class Compare(Protocol):
    """pytest-textual-snapshot's fixture."""

    def __call__(self, app: App[Any], *, terminal_size: tuple[int, int], run_before: object) -> bool: ...


def models() -> Screen[object]:
    return cast(
        "Screen[object]",
        ModelsScreen(lambda: ENTRIES, FakeJudge(), loaded="Qwen/Qwen3-8B", clock=lambda: NOW),
    )


def sessions() -> Screen[object]:
    store = cast("SessionStore", FakeStore())
    return cast("Screen[object]", SessionsScreen(store, current=2, clock=lambda: NOW))


def help_() -> Screen[object]:
    return cast("Screen[object]", HelpScreen())


def plan() -> Screen[object]:
    return cast("Screen[object]", PlanScreen(WISH, plan_of))


def code() -> Screen[object]:
    return cast("Screen[object]", ConsentScreen(REVIEW, clock=lambda: NOW))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("make", [models, sessions, help_, plan, code])
def test_a_dialog_looks_as_it_did(
    snap_compare: Compare, make: Callable[[], Screen[object]], size: tuple[int, int]
) -> None:
    async def show(pilot: Pilot[None]) -> None:
        pilot.app.push_screen(make())
        for _ in range(3):
            await pilot.pause()
            await pilot.app.workers.wait_for_complete()

    assert snap_compare(Shown(), terminal_size=size, run_before=show)


@pytest.mark.parametrize("theme", ["vramble", "paper", "terminal"])
@pytest.mark.parametrize("size", [(36, 24), (80, 2)])
def test_the_memory_panel_looks_as_it_did(snap_compare: Compare, theme: str, size: tuple[int, int]) -> None:
    panel = MemoryPanel()

    async def show(pilot: Pilot[None]) -> None:
        for step in range(40):
            panel.show_reading(reading(gpu(used=23.0 + step * 2, own=2.0 * step), at=100.0 + 2 * step))
        panel.show_reading(reading(gpu(used=101.0), at=181.0))
        panel.show_ledger(ledger())
        await pilot.pause(0.6)

    assert snap_compare(Shown(panel, theme=theme), terminal_size=size, run_before=show)


class NotOpened(Bridge):
    """A bridge to nothing, so that a chat is shown and none is begun."""

    def open(self, _wake: object) -> None:
        """Start neither engine nor store."""


LOADED = ModelLoaded(
    model=staged.MODEL,
    placement=staged.PLACEMENT,
    context_window=32768,
    max_context_window=40960,
    dtype="bfloat16",
    architecture="Qwen3ForCausalLM",
    parameters=8_190_735_360,
    load_seconds=4.0,
    sampling=SamplingParams(),
)


def fill(screen: ChatScreen) -> None:
    """What a chat shows after a minute of talk."""
    for second in range(0, 62, 2):
        screen.memory.show_reading(staged.reading(second))
    screen.memory.show_ledger(staged.LEDGER)
    screen.title_line.model = describe_model(LOADED)
    screen.title_line.session = "kernel notes"
    screen.context_meter.use = ContextUse(
        used=3120, window=32768, next_turn=512, kv_bytes_per_token=147456, device="GPU 0"
    )
    screen.status_line.status = Status(
        state="ready", decode_tps=31.4, first_token=0.21, context_used=3120, context_window=32768
    )
    talk = [
        ("你好，这是什么？", "这是一个**终端**程序。", TurnMark.STOPPED),
        (staged.QUESTION, staged.ANSWER, TurnMark.NONE),
    ]
    screen.transcript.show_history(
        PastTurn(
            turn_key=str(number),
            prompt=safe(prompt),
            speaker=safe_line("Qwen3-8B"),
            reply=safe(reply),
            reasoning=safe("Weights are read once a pass."),
            footer=safe("212 tok · 31/s"),
            mark=mark,
            reasoning_tokens=7,
        )
        for number, (prompt, reply, mark) in enumerate(talk)
    )


@pytest.mark.parametrize("size", [(20, 5), (40, 10), (80, 24), (120, 40), (200, 60)])
def test_the_chat_looks_as_it_did(snap_compare: Compare, size: tuple[int, int]) -> None:
    settings = Settings()
    app = VrambleApp(NotOpened(ChatOptions(), settings), settings)

    async def show(pilot: Pilot[int]) -> None:
        await pilot.pause()
        screen = pilot.app.screen
        assert isinstance(screen, ChatScreen)
        fill(screen)
        await pilot.pause(0.8)

    assert snap_compare(app, terminal_size=size, run_before=show)
