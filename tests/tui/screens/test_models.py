import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from engine import LocalModel
from engine.errors import EngineFault
from engine.values import Fits, Hub, ModelRef
from tests.tui.readings import Shown
from tests.tui.screens.entries import ENTRIES, NOW, FakeJudge, entry, until
from tui.model_entries import ModelEntry, model_entries
from tui.outlooks import Outlook
from tui.screens.dialog import Line
from tui.screens.models import ModelChoice, ModelsScreen
from tui.widgets.choice_list import ChoiceList
from tui.widgets.row_view import RowView


class Picker:
    """The picker on a screen, and what it gave back."""

    def __init__(
        self, entries: Sequence[ModelEntry] = ENTRIES, loaded: str = "", judge: FakeJudge | None = None
    ) -> None:
        self.app = Shown()
        self.judge = judge or FakeJudge()
        self.screen = ModelsScreen(lambda: entries, self.judge, loaded=loaded, clock=lambda: NOW)
        self.results: list[ModelChoice | None] = []

    async def open(self, pilot: Pilot[None]) -> None:
        self.app.push_screen(self.screen, self.results.append)
        await pilot.app.workers.wait_for_complete()
        await pilot.pause()
        await pilot.pause()

    async def settle(self, pilot: Pilot[None]) -> None:
        """Wait until there are rows, which stay as they are."""
        before: list[str] = []

        def is_settled() -> bool:
            nonlocal before
            last, before = before, self.shown() if self.screen.query("#list") else []
            return bool(before) and last == before

        await until(pilot, is_settled, "rows that stay")

    def rows(self) -> list[str]:
        view = self.screen.query_one(ChoiceList)
        return [view.render_line(y).text.strip(" ▌") for y in range(view.size.height)]

    def shown(self) -> list[str]:
        return [row.split("  ")[0] for row in self.rows() if row]

    def said(self) -> str:
        line = self.screen.query_one(Line)
        return str(line.content) if line.display else ""


async def test_every_model_is_a_row_with_size_fit_context_and_last_use() -> None:
    picker = Picker()
    async with picker.app.run_test(size=(120, 40)) as pilot:
        await picker.open(pilot)
        assert [row.split() for row in picker.rows()[:3]] == [
            ["guide", "11", "MiB", "GPU", "1,000", "2k", "bf16", "1", "min"],
            ["Qwen/Qwen3-8B", "15.3", "GiB", "GPU", "65.4", "40k", "bf16", "1", "h"],
            [
                "meta-llama/Llama-3.3-70B-Instruct",
                "131.4",
                "GiB",
                "GPU+RAM",
                "7.6",
                "128k",
                "bf16",
                "1",
                "w",
            ],
        ]
        assert picker.rows()[4].split()[3] == "no"


async def test_typing_keeps_what_holds_every_word_and_enter_loads_the_chosen_one() -> None:
    picker = Picker()
    async with picker.app.run_test(size=(80, 24)) as pilot:
        await picker.open(pilot)
        await pilot.press(*"b INST")
        await pilot.pause()
        assert picker.shown() == ["meta-llama/Llama-3.3-70B-Instruct"]
        await pilot.press("enter")
        await pilot.pause()
        assert picker.results == [ModelChoice(ENTRIES[2].model)]


async def test_the_arrows_move_while_the_search_line_has_the_focus() -> None:
    picker = Picker()
    async with picker.app.run_test(size=(80, 24)) as pilot:
        await picker.open(pilot)
        await pilot.press("down", "down", "up")
        assert isinstance(picker.screen.focused, Input)
        assert picker.screen.query_one(ChoiceList).chosen == 1
        await pilot.press("pagedown", "down", "pageup", "enter")
        await pilot.pause()
        assert picker.results == [ModelChoice(ENTRIES[0].model)]


async def test_f2_asks_for_the_plan_and_escape_for_nothing() -> None:
    for key, expected in (("f2", ModelChoice(ENTRIES[0].model, wants_plan=True)), ("escape", None)):
        picker = Picker()
        async with picker.app.run_test(size=(80, 24)) as pilot:
            await picker.open(pilot)
            await pilot.press(key)
            await pilot.pause()
            assert picker.results == [expected]


async def test_a_model_that_cannot_be_loaded_says_why_and_stays() -> None:
    picker = Picker()
    async with picker.app.run_test(size=(80, 24)) as pilot:
        await picker.open(pilot)
        await pilot.press(*"old", "enter")
        await pilot.pause()
        assert picker.results == []
        assert picker.said() == "It has only pickles, which could run any code."


async def test_the_loaded_model_is_marked_and_chosen_first() -> None:
    picker = Picker(loaded="Qwen/Qwen3-8B")
    async with picker.app.run_test(size=(80, 24)) as pilot:
        await picker.open(pilot)
        assert picker.screen.query_one(ChoiceList).chosen == 1
        assert "● loaded" in picker.rows()[1]


async def test_nothing_found_and_nothing_there_are_sentences() -> None:
    picker = Picker()
    async with picker.app.run_test(size=(80, 24)) as pilot:
        await picker.open(pilot)
        await pilot.press(*"zzz", "enter", "f2", "down")
        await pilot.pause()
        assert picker.said() == "No model here is called zzz."
        assert picker.results == []
    empty = Picker(())
    async with empty.app.run_test(size=(80, 24)) as pilot:
        await empty.open(pilot)
        assert "F4 gets it" in empty.said()


async def test_the_list_is_made_beside_the_screen() -> None:
    made_in: list[int] = []
    may_end = threading.Event()

    def slow() -> tuple[ModelEntry, ...]:
        made_in.append(threading.get_ident())
        may_end.wait(10)
        return ENTRIES

    picker = Picker()
    picker.screen = ModelsScreen(slow, FakeJudge())
    async with picker.app.run_test(size=(80, 24)) as pilot:
        picker.app.push_screen(picker.screen)
        await pilot.pause()
        await pilot.press("q")
        assert "Looking for models" in picker.said()
        may_end.set()
        await picker.app.workers.wait_for_complete()
        await pilot.pause()
        await pilot.pause()
        assert picker.shown() == ["Qwen/Qwen3-8B"]
    assert made_in[0] != threading.get_ident()


@pytest.mark.parametrize(
    "error", [EngineFault("The disk is gone.", "Mount it."), OSError("Stale file handle")]
)
async def test_a_list_that_cannot_be_made_is_a_sentence(error: Exception) -> None:
    def fail() -> tuple[ModelEntry, ...]:
        raise error

    picker = Picker()
    picker.screen = ModelsScreen(fail, FakeJudge())
    async with picker.app.run_test(size=(80, 24)) as pilot:
        await picker.open(pilot)
        assert picker.said() == str(error)


async def test_hostile_names_are_drawn_harmless_and_never_as_markup() -> None:
    evil = entry("[red]x\x1b]0;y\x07[/", 1.0, problem="[@click=app.quit]go\x1b[2J")
    picker = Picker((evil,))
    async with picker.app.run_test(size=(120, 24)) as pilot:
        await picker.open(pilot)
        assert picker.shown() == ["[red]x␛]0;y␇[/"]
        await pilot.press("enter")
        await pilot.pause()
        assert picker.said() == "[@click=app.quit]go␛[2J"


async def test_a_click_chooses_and_a_second_one_loads() -> None:
    picker = Picker()
    async with picker.app.run_test(size=(80, 24)) as pilot:
        await picker.open(pilot)
        await pilot.click(ChoiceList, offset=(5, 1))
        assert picker.screen.query_one(ChoiceList).chosen == 1
        await pilot.click(ChoiceList, offset=(5, 1))
        await pilot.pause()
        assert picker.results == [ModelChoice(ENTRIES[1].model)]


async def test_a_thousand_models_scroll_and_only_those_seen_are_drawn() -> None:
    picker = Picker([entry(f"m{number:04}", 1.0) for number in range(1000)])
    async with picker.app.run_test(size=(80, 24)) as pilot:
        await picker.open(pilot)
        await pilot.press(*["pagedown"] * 20)
        await pilot.pause()
        chosen = picker.screen.query_one(ChoiceList).chosen
        assert chosen > 100
        assert f"m{chosen:04}" in picker.shown()


def test_models_used_last_come_first_and_those_with_a_problem_last() -> None:
    def model(name: str, problem: str = "") -> LocalModel:
        ref = ModelRef(
            name=name, folder=Path("/m"), hub=Hub.MODELSCOPE, repo_id=name, revision="0123456789abcdef"
        )
        return LocalModel(ref=ref, architecture="A", weight_bytes=1, format="bf16", problem=problem)

    found = model_entries([model("a"), model("b", "broken"), model("c"), model("d")], {"c": 5.0, "d": 9.0})
    assert [each.model.name for each in found] == ["d", "c", "a", "b"]
    assert found[0].details == (("runs as", "A"), ("from", "modelscope · d · 0123456789ab"))


class Slow(FakeJudge):
    """Looks at nothing before it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_look = threading.Event()

    def look(self, entry: ModelEntry) -> Outlook:
        self.may_look.wait()
        return super().look(entry)


async def test_the_chosen_row_is_judged_first_then_those_in_view_then_the_others() -> None:
    judge = Slow()
    picker = Picker([entry(f"m{number:03}", 1.0) for number in range(60)], loaded="m040", judge=judge)
    async with picker.app.run_test(size=(80, 24)) as pilot:
        picker.app.push_screen(picker.screen)
        await picker.settle(pilot)
        first_seen = int(picker.shown()[0][1:4])
        judge.may_look.set()
        await picker.app.workers.wait_for_complete()
        assert judge.looked[0] == "m040"
        seen = [f"m{number:03}" for number in range(first_seen, 40)]
        assert judge.looked[1 : len(seen) + 1] == seen
        assert sorted(judge.looked) == [f"m{number:03}" for number in range(60)]


async def test_a_model_is_judged_while_one_types_and_its_row_tells_it() -> None:
    judge = Slow()
    picker = Picker(judge=judge)
    async with picker.app.run_test(size=(120, 40)) as pilot:
        picker.app.push_screen(picker.screen)
        await picker.settle(pilot)
        await pilot.press(*"deep")
        await pilot.pause()
        assert picker.rows()[0].split()[:4] == ["deepseek-ai/DeepSeek-V3", "642.0", "GiB", "…"]
        judge.may_look.set()
        await picker.app.workers.wait_for_complete()
        await pilot.pause()
        assert picker.rows()[0].split()[3] == "no"
        assert "does not fit" in picker.screen.query_one("#details", RowView).render_line(0).text


async def test_what_is_wrong_with_a_model_is_told_and_it_stays() -> None:
    class Strict(FakeJudge):
        def look(self, entry: ModelEntry) -> Outlook:
            return Outlook(None, problem="Its shard is truncated.")

    picker = Picker()
    picker.screen = ModelsScreen(lambda: ENTRIES, Strict(), clock=lambda: NOW)
    async with picker.app.run_test(size=(120, 40)) as pilot:
        await picker.open(pilot)
        assert picker.rows()[0].split()[3] == "no"
        assert "Its shard is truncated." in picker.screen.query_one("#details", RowView).render_line(0).text
        await pilot.press("enter")
        await pilot.pause()
        assert picker.said() == "Its shard is truncated."
        assert picker.results == []


async def test_a_row_that_is_remembered_is_not_judged_again() -> None:
    class Remembering(FakeJudge):
        def known(self, entry: ModelEntry) -> Outlook | None:
            return Outlook(Fits.DISK, False, 0.5, "slowly")

    judge = Remembering()
    picker = Picker()
    picker.screen = ModelsScreen(lambda: ENTRIES, judge, clock=lambda: NOW)
    async with picker.app.run_test(size=(120, 40)) as pilot:
        await picker.open(pilot)
        assert picker.rows()[1].split()[3:5] == ["disk", "0.50"]
        assert judge.looked == []
