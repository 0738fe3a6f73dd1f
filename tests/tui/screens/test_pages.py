import pytest
from textual.containers import VerticalScroll

from tests.tui.readings import Shown
from themes import palette_files
from tui.commands import COMMANDS
from tui.screens.help import HelpScreen, help_rows
from tui.screens.themes import ThemesScreen
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
