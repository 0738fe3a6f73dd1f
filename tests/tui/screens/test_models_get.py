"""Getting a model from the list of models, by the hubs' real libraries from stub hubs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from engine import list_models
from engine.downloads import AnyDownloadEvent, Downloaded, DownloadPaused
from tests.engine.hub.pulling import REPO, lead_to, repository
from tests.stub_hubs import StubHubs
from tests.tui.readings import Shown
from tests.tui.screens.entries import NOW, FakeJudge, until
from tui.downloading import Downloading
from tui.model_entries import ModelEntry, model_entries
from tui.screens.dialog import Line
from tui.screens.models import ModelsScreen
from tui.widgets.choice_list import ChoiceList


@pytest.fixture
def hubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StubHubs]:
    with StubHubs() as stub:
        lead_to(stub, tmp_path, monkeypatch)
        yield stub


def find() -> list[ModelEntry]:
    return model_entries(list_models(), {})


def weights_below(folder: Path) -> list[Path]:
    return list(folder.rglob("*.safetensors*"))


class Getting:
    """The list of models over a download of its own."""

    def __init__(self) -> None:
        self.app = Shown()
        self.judge = FakeJudge()
        self.ends: list[AnyDownloadEvent] = []
        self.downloading = Downloading(self.ends.append)
        self.screen = self.opened()

    def opened(self) -> ModelsScreen:
        self.screen = ModelsScreen(find, self.judge, self.downloading, clock=lambda: NOW)
        return self.screen

    async def open(self, pilot: Pilot[None]) -> None:
        self.app.push_screen(self.screen)
        await pilot.app.workers.wait_for_complete()
        await pilot.pause()

    async def type(self, pilot: Pilot[None], text: str) -> None:
        self.screen.query_one(Input).value = text
        await pilot.pause()

    def told(self) -> str:
        return str(self.screen.query_one("#download", Line).content)

    def lower_edge(self) -> str:
        return str(self.screen.query_one("#frame").border_subtitle)

    def names(self) -> list[str]:
        view = self.screen.query_one(ChoiceList)
        return [view.render_line(y).text.strip(" ▌").split("  ")[0] for y in range(view.size.height)]


async def test_a_typed_name_is_fetched_with_progress_then_listed_chosen_and_judged(hubs: StubHubs) -> None:
    hubs.add(REPO, repository(600_000))
    hubs.bytes_per_second = 300_000
    getting = Getting()
    async with getting.app.run_test(size=(120, 30)) as pilot:
        await getting.open(pilot)
        await getting.type(pilot, f"hf:{REPO}")
        said = str(getting.screen.query_one("#say", Line).content)
        assert said == f"No model here is called hf:{REPO}: F4 gets it."
        await pilot.press("f4")
        await until(pilot, lambda: "MB/s" in getting.told(), "a rate")
        assert "F4 pause · F6 cancel" in getting.lower_edge()
        await until(pilot, lambda: REPO in getting.judge.looked, "its outlook")
        assert getting.told() == f"{REPO} is installed, and every checksum holds."
        assert getting.names()[getting.screen.query_one(ChoiceList).chosen] == REPO
        assert "F4 get" in getting.lower_edge()
    assert isinstance(getting.ends[0], Downloaded)


async def test_f4_pauses_and_goes_on_also_where_the_list_was_closed_in_between(hubs: StubHubs) -> None:
    hubs.add(REPO, repository(600_000))
    hubs.bytes_per_second = 300_000
    getting = Getting()
    async with getting.app.run_test(size=(120, 30)) as pilot:
        await getting.open(pilot)
        await getting.type(pilot, f"ms:{REPO}")
        await pilot.press("f4")
        await until(pilot, lambda: "MB/s" in getting.told(), "a rate")
        await pilot.press("f4")
        await until(pilot, lambda: "is paused: F4 goes on" in getting.told(), "the pause")
        assert isinstance(getting.ends[-1], DownloadPaused)
        await pilot.press("escape")
        getting.opened()
        await getting.open(pilot)
        assert "is paused: F4 goes on" in getting.told()
        hubs.bytes_per_second = 0
        await pilot.press("f4")
        await until(pilot, lambda: REPO in getting.names(), "the model")


async def test_f6_gives_up_and_removes_what_came(hubs: StubHubs, tmp_path: Path) -> None:
    hubs.add(REPO, repository(600_000))
    hubs.bytes_per_second = 300_000
    getting = Getting()
    async with getting.app.run_test(size=(120, 30)) as pilot:
        await getting.open(pilot)
        await getting.type(pilot, f"ms:{REPO}")
        await pilot.press("f4")
        await until(pilot, lambda: "MB/s" in getting.told(), "a rate")
        await pilot.press("f4")
        await until(pilot, lambda: getting.downloading.is_paused, "the pause")
        assert weights_below(tmp_path)
        await pilot.press("f6")
        await until(pilot, lambda: "is given up" in getting.told(), "the end")
    assert not weights_below(tmp_path)


async def test_a_bad_name_and_a_failure_are_sentences(hubs: StubHubs) -> None:
    getting = Getting()
    async with getting.app.run_test(size=(120, 30)) as pilot:
        await getting.open(pilot)
        await pilot.press("f4")
        assert "Type hf:owner/name" in str(getting.screen.query_one("#say", Line).content)
        await getting.type(pilot, "../../etc")
        await pilot.press("f4")
        assert "is not the name of a model on a hub" in str(getting.screen.query_one("#say", Line).content)
        await getting.type(pilot, "ms:nobody/nothing")
        await pilot.press("f4")
        await until(pilot, lambda: "has no model nobody/nothing" in getting.told(), "the cause")
