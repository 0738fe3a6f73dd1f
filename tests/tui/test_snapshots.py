"""Pictures of what has no clock and no machine in it; a changed one is looked at before it is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, cast

import pytest

from tests.tui.readings import Shown, gpu, ledger, reading
from tests.tui.screens.entries import ENTRIES, FREE, NOW, PLACEMENT, FakeStore
from tui.screens.help import HelpScreen
from tui.screens.models import ModelsScreen
from tui.screens.plan import PlanScreen
from tui.screens.sessions import SessionsScreen
from tui.widgets.memory_panel import MemoryPanel

if TYPE_CHECKING:
    from textual.pilot import Pilot
    from textual.screen import Screen

    from sessions import SessionStore

SIZES = [(120, 40), (80, 24)]


class Compare(Protocol):
    """pytest-textual-snapshot's fixture."""

    def __call__(self, app: Shown, *, terminal_size: tuple[int, int], run_before: object) -> bool: ...


def models() -> Screen[object]:
    return cast(
        "Screen[object]",
        ModelsScreen(
            lambda: ENTRIES, FREE, loaded="Qwen/Qwen3-8B", measure=lambda entry: entry, clock=lambda: NOW
        ),
    )


def sessions() -> Screen[object]:
    store = cast("SessionStore", FakeStore())
    return cast("Screen[object]", SessionsScreen(store, current=2, clock=lambda: NOW))


def help_() -> Screen[object]:
    return cast("Screen[object]", HelpScreen())


def plan() -> Screen[object]:
    return cast("Screen[object]", PlanScreen("Qwen3-8B", PLACEMENT))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("make", [models, sessions, help_, plan])
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
