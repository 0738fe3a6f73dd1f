import pytest
from textual.containers import VerticalScroll

from engine.values import DevicePlan, Placement
from tests.tui.readings import GIB, Shown
from tests.tui.screens.entries import PLACEMENT
from themes import palette_files
from tui.commands import COMMANDS
from tui.screens.dialog import Line
from tui.screens.help import HelpScreen, help_rows
from tui.screens.plan import PlanScreen
from tui.screens.themes import ThemesScreen
from tui.widgets.placement_view import PlacementView, device_gauge, placement_rows
from tui.widgets.rows import Row, row_width


def text(rows: list[Row]) -> str:
    return "\n".join("".join(span.text for span in row).rstrip() for row in rows)


@pytest.mark.parametrize("width", [20, 40, 74, 110])
def test_help_names_every_key_and_every_slash_command(width: int) -> None:
    rows = help_rows(COMMANDS, width)
    page = text(rows)
    assert all(row_width(row) == width for row in rows)
    for command in COMMANDS:
        assert command.key_label in page
        if width > 30:
            assert command.usage[:20] in page


async def test_help_scrolls_and_closes_by_the_key_that_opened_it() -> None:
    app = Shown()
    async with app.run_test(size=(80, 24)) as pilot:
        await app.push_screen(HelpScreen())
        await pilot.pause()
        await pilot.press("end")
        await pilot.pause()
        assert app.screen.query_one(VerticalScroll).scroll_offset.y > 0
        await pilot.press("f1")
        assert not isinstance(app.screen, HelpScreen)


@pytest.mark.parametrize("width", [1, 10, 40, 74, 110])
def test_a_plan_is_exactly_as_wide_as_asked(width: int) -> None:
    assert all(row_width(row) == width for row in placement_rows(PLACEMENT, width))


def test_a_plan_shows_devices_in_use_reasons_and_the_runs_of_each_tier() -> None:
    page = text(placement_rows(PLACEMENT, 100))
    assert "context 32,768 (32k) · weights as stored · needs the disk" in page
    assert "GPU 0  RTX 4080" in page
    assert "weights 14.0 · KV 2.0 · act .5 · runtime .5 · left 1.0" in page
    assert "GPU 1" not in page
    assert "· 8 of 36 layers do not fit beside the KV cache" in page
    assert page.splitlines()[-4:] == [
        "█" * 28 + "█" * 5 + "▒" * 3,
        "gpu      28  0 … 27                     14.0 GiB  rest and compute on the GPU (gpu:0)",
        "stream    5  28 … 32                     2.5 GiB  rest in RAM, compute on the GPU (ram)",
        "disk      3  33 … 35                     1.5 GiB  rest in files, are read for every token",
    ]


def test_a_device_that_would_be_overfull_is_drawn_full() -> None:
    gauge = device_gauge(DevicePlan(device="ram", budget_bytes=GIB, weight_bytes=2 * GIB))
    assert gauge.total_bytes == 2 * GIB
    assert sum(part.size_bytes for part in gauge.parts) == 2 * GIB


def test_an_empty_placement_has_no_layers_to_show() -> None:
    assert "layers" not in text(placement_rows(Placement(context_window=1), 80))
    assert placement_rows(PLACEMENT, 0) == []


async def test_a_plan_that_comes_later_is_drawn_and_enter_loads_it() -> None:
    app, results = Shown(), list[bool | None]()
    screen = PlanScreen("Qwen3-8B")
    async with app.run_test(size=(120, 40)) as pilot:
        app.push_screen(screen, results.append)
        await pilot.pause()
        await pilot.press("enter")
        assert results == []
        assert "Reading" in str(screen.query_one(Line).content)
        screen.show_placement(PLACEMENT)
        await pilot.pause()
        assert screen.query_one(PlacementView).size.height > 20
        assert not screen.query_one(Line).display
        await pilot.press("enter")
        await pilot.pause()
        assert results == [True]


async def test_the_plan_of_the_loaded_model_is_only_looked_at() -> None:
    app, results = Shown(), list[bool | None]()
    async with app.run_test(size=(80, 24)) as pilot:
        app.push_screen(PlanScreen("Qwen3-8B", PLACEMENT, is_loaded=True), results.append)
        await pilot.pause()
        await pilot.press("enter")
        assert results == []
        await pilot.press("f2")
        await pilot.pause()
        assert results == [None]


async def test_why_there_is_no_plan_is_a_sentence() -> None:
    app, screen = Shown(), PlanScreen("x")
    async with app.run_test(size=(80, 24)) as pilot:
        app.push_screen(screen)
        await pilot.pause()
        screen.show_problem("It needs 3 GiB more.", "Allow more with --ram.")
        assert str(screen.query_one(Line).content) == "It needs 3 GiB more. Allow more with --ram."


async def test_a_palette_is_shown_while_it_is_chosen_and_kept_by_enter_only() -> None:
    names = list(palette_files())
    for key, result, last in (("enter", "gruvbox", "gruvbox"), ("escape", None, "contrast")):
        app, shown, results = Shown(), list[str](), list[str | None]()
        async with app.run_test(size=(80, 24)) as pilot:
            app.push_screen(ThemesScreen(names, "contrast", shown.append), results.append)
            await pilot.pause()
            await pilot.press("down")
            await pilot.pause()
            assert shown[-1] == "gruvbox"
            await pilot.press(key)
            await pilot.pause()
            assert results == [result]
            assert shown[-1] == last
