import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from engine import LocalModel
from engine.errors import EngineFault
from engine.values import Fits, Hub, ModelRef
from tests.tui.readings import GIB, Shown, gpu, ram, reading
from tests.tui.screens.entries import ENTRIES, FREE, NOW, entry
from tests.tui.verbs import folders
from tui.model_entries import (
    FreeMemory,
    ModelEntry,
    estimate_fit,
    fit_word,
    free_memory,
    measured,
    model_entries,
)
from tui.screens.dialog import Line
from tui.screens.models import ModelChoice, ModelsScreen
from tui.widgets.choice_list import ChoiceList
from tui.widgets.row_view import RowView


class Picker:
    """The picker on a screen, and what it gave back."""

    def __init__(self, entries: Sequence[ModelEntry] = ENTRIES, loaded: str = "") -> None:
        self.app = Shown()
        self.screen = ModelsScreen(
            lambda: entries, FREE, loaded=loaded, measure=lambda entry: entry, clock=lambda: NOW
        )
        self.results: list[ModelChoice | None] = []

    async def open(self, pilot: Pilot[None]) -> None:
        self.app.push_screen(self.screen, self.results.append)
        await pilot.app.workers.wait_for_complete()
        await pilot.pause()
        await pilot.pause()

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
            ["guide", "11", "MiB", "GPU", "2k", "bf16", "1", "min"],
            ["Qwen/Qwen3-8B", "15.3", "GiB", "GPU", "40k", "bf16", "1", "h"],
            ["meta-llama/Llama-3.3-70B-Instruct", "131.4", "GiB", "GPU+RAM", "128k", "bf16", "1", "w"],
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
        assert "vramble pull" in empty.said()


async def test_the_list_is_made_beside_the_screen() -> None:
    made_in: list[int] = []
    may_end = threading.Event()

    def slow() -> tuple[ModelEntry, ...]:
        made_in.append(threading.get_ident())
        may_end.wait(10)
        return ENTRIES

    picker = Picker()
    picker.screen = ModelsScreen(slow, FREE, measure=lambda entry: entry)
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
    picker.screen = ModelsScreen(fail, FREE)
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


@pytest.mark.parametrize(
    ("gib", "free", "fits", "word"),
    [
        (15.3, FREE, Fits.GPU, "GPU"),
        (99.9, FREE, Fits.GPU_RAM, "GPU+RAM"),
        (15.3, FreeMemory(ram_bytes=20 * GIB), Fits.GPU_RAM, "RAM"),
        (15.3, FreeMemory(ram_bytes=10 * GIB), Fits.DISK, "disk"),
        (642, FREE, Fits.DISK, "disk"),
    ],
)
def test_a_first_estimate_goes_by_sizes_alone(gib: float, free: FreeMemory, fits: Fits, word: str) -> None:
    model = entry("x", gib)
    assert estimate_fit(model, free) is fits
    assert fit_word(model, free)[0] == word


def test_what_is_free_includes_what_the_engine_would_give_back() -> None:
    now = reading(gpu(used=41.2, own=18.8), gpu(1, problem="n/a (lost)"), memory=ram(used=20.0))
    free = free_memory(now)
    assert free.gpu_bytes == int(139.8 * GIB) - int(41.2 * GIB) + int(18.8 * GIB)
    assert free.ram_bytes == (123 - 20 + 2) * GIB
    assert free_memory(reading()).gpu_bytes is None


def test_models_used_last_come_first_and_those_with_a_problem_last() -> None:
    def model(name: str, problem: str = "") -> LocalModel:
        ref = ModelRef(
            name=name, folder=Path("/m"), hub=Hub.MODELSCOPE, repo_id=name, revision="0123456789abcdef"
        )
        return LocalModel(ref=ref, architecture="A", weight_bytes=1, format="bf16", problem=problem)

    found = model_entries([model("a"), model("b", "broken"), model("c"), model("d")], {"c": 5.0, "d": 9.0})
    assert [each.model.name for each in found] == ["d", "c", "a", "b"]
    assert found[0].details == (("runs as", "A"), ("from", "modelscope · d · 0123456789ab"))


def test_a_close_look_finds_the_kv_cache_and_what_is_wrong_with_the_headers(tmp_path: Path) -> None:
    good = ModelEntry(model=ModelRef(name="a", folder=folders.sound(tmp_path / "a")), context_window=4096)
    tokens, heads_and_layers = 4096, 2 * folders.LAYERS
    assert measured(good).kv_bytes == tokens * heads_and_layers * folders.HIDDEN * 4
    weights = good.model.folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert measured(good).problem != ""


async def test_a_close_look_corrects_the_row_and_the_details_while_the_list_is_shown() -> None:
    def look(entry: ModelEntry) -> ModelEntry:
        if entry.model.name == "guide":
            return replace(entry, problem="Its shard is truncated.")
        return replace(entry, kv_bytes=GIB * 90)

    picker = Picker()
    picker.screen = ModelsScreen(lambda: ENTRIES, FREE, measure=look, clock=lambda: NOW)
    async with picker.app.run_test(size=(120, 40)) as pilot:
        await picker.open(pilot)
        assert [row.split()[3] for row in picker.rows()[:5]] == ["no", "GPU+RAM", "disk", "disk", "no"]
        details = picker.screen.query_one("#details", RowView)
        assert "Its shard is truncated." in details.render_line(0).text
