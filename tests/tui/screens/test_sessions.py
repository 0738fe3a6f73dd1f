from typing import cast

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from sessions import SessionStore
from tests.tui.readings import Shown
from tests.tui.screens.entries import NOW, FakeStore
from tui.screens.dialog import Line
from tui.screens.sessions import SessionsScreen
from tui.widgets.choice_list import ChoiceList


class Chooser:
    """The dialog on a screen, and what it gave back."""

    def __init__(self, current: int = 0) -> None:
        self.app = Shown()
        self.store = FakeStore()
        self.screen = SessionsScreen(cast(SessionStore, self.store), current=current, clock=lambda: NOW)
        self.results: list[int | None] = []

    async def open(self, pilot: Pilot[None]) -> None:
        self.app.push_screen(self.screen, self.results.append)
        await self.settle(pilot)

    async def press(self, pilot: Pilot[None], *keys: str) -> None:
        await pilot.press(*keys)
        await self.settle(pilot)

    async def settle(self, pilot: Pilot[None]) -> None:
        for _ in range(3):
            await pilot.pause()
            await self.app.workers.wait_for_complete()

    def rows(self) -> list[str]:
        view = self.screen.query_one(ChoiceList)
        rows = [view.render_line(y).text.strip(" ▌") for y in range(view.size.height)]
        return [row for row in rows if row]

    def said(self) -> str:
        line = self.screen.query_one(Line)
        return str(line.content) if line.display else ""

    def keys(self) -> str:
        return str(self.screen.query_one("#frame").border_subtitle)


async def test_sessions_are_listed_with_age_turns_and_model_and_the_open_one_is_marked() -> None:
    chooser = Chooser(current=2)
    async with chooser.app.run_test(size=(120, 40)) as pilot:
        await chooser.open(pilot)
        rows = chooser.rows()
        assert rows[0].split() == ["kernel", "notes", "1", "h", "1", "Qwen3-8B"]
        assert "● open" in rows[1]
        assert rows[3].startswith("untitled")
        assert rows[4].startswith("held ␛[31melsewhere")


async def test_enter_resumes_the_chosen_session() -> None:
    chooser = Chooser()
    async with chooser.app.run_test(size=(80, 24)) as pilot:
        await chooser.open(pilot)
        await chooser.press(pilot, "j", "down", "up", "enter")
        assert chooser.results == [2]


async def test_a_search_keeps_what_it_finds_and_enter_goes_on_to_the_list() -> None:
    chooser = Chooser()
    async with chooser.app.run_test(size=(80, 24)) as pilot:
        await chooser.open(pilot)
        await chooser.press(pilot, "slash", *"prefill")
        assert len(chooser.rows()) == 1
        await chooser.press(pilot, "enter", "enter")
        assert chooser.results == [2]


async def test_a_search_without_a_hit_says_so() -> None:
    chooser = Chooser()
    async with chooser.app.run_test(size=(80, 24)) as pilot:
        await chooser.open(pilot)
        await chooser.press(pilot, "slash", *"zzz")
        assert chooser.said() == "Nobody said that."
        await chooser.press(pilot, "escape", "enter", "r", "d", "y")
        assert chooser.results == []


async def test_a_session_is_deleted_only_after_yes() -> None:
    chooser = Chooser()
    async with chooser.app.run_test(size=(80, 24)) as pilot:
        await chooser.open(pilot)
        await chooser.press(pilot, "d")
        assert chooser.said() == "Delete “kernel notes” with 1 turn for ever?"
        assert chooser.keys() == "y delete · n keep"
        await chooser.press(pilot, "y")
        assert [session.id for session in chooser.store.saved] == [2, 3, 4, 5]
        assert chooser.rows()[0].startswith("why is prefill")
        assert chooser.said() == ""


@pytest.mark.parametrize("key", ["n", "escape", "down"])
async def test_anything_but_yes_keeps_the_session(key: str) -> None:
    chooser = Chooser()
    async with chooser.app.run_test(size=(80, 24)) as pilot:
        await chooser.open(pilot)
        await chooser.press(pilot, "d", key, "y")
        assert len(chooser.store.saved) == 5
        assert chooser.said() == ""
        assert chooser.results == []


async def test_a_session_that_another_program_holds_is_kept_with_a_sentence() -> None:
    chooser = Chooser()
    async with chooser.app.run_test(size=(80, 24)) as pilot:
        await chooser.open(pilot)
        await chooser.press(pilot, "end", "d", "y")
        assert len(chooser.store.saved) == 5
        assert chooser.said() == "This session is open in process 7. Close it there."


async def test_a_title_is_written_anew_and_escape_keeps_the_old_one() -> None:
    chooser = Chooser()
    async with chooser.app.run_test(size=(80, 24)) as pilot:
        await chooser.open(pilot)
        await chooser.press(pilot, "r", *"!", "enter")
        assert chooser.store.saved[0].title == "kernel notes!"
        assert chooser.rows()[0].startswith("kernel notes!")
        await chooser.press(pilot, "r", *"??", "escape")
        assert chooser.store.saved[0].title == "kernel notes!"
        assert isinstance(chooser.screen.focused, ChoiceList)
        assert not chooser.screen.query_one("#rename", Input).display


async def test_escape_leaves_without_a_choice() -> None:
    chooser = Chooser()
    async with chooser.app.run_test(size=(80, 24)) as pilot:
        await chooser.open(pilot)
        await chooser.press(pilot, "escape")
        assert chooser.results == [None]


async def test_an_empty_store_says_so() -> None:
    chooser = Chooser()
    chooser.store.saved.clear()
    async with chooser.app.run_test(size=(80, 24)) as pilot:
        await chooser.open(pilot)
        assert chooser.said() == "Nothing is saved yet."
