"""The code that a model brings: every line can be read, and only F8 lets it run."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot

from engine import code_of
from tests.tui.chat_support import chat_pilot
from tests.tui.readings import Shown
from tests.tui.verbs import code_folders
from tui.code_review import CodeReview, review_of
from tui.consents import Consents
from tui.screens.consent import ConsentScreen
from tui.screens.dialog import Line
from tui.widgets.choice_list import ChoiceList
from tui.widgets.row_view import RowView
from tui.widgets.source_view import SourceView

HOSTILE = "access = 'user\u202e' # \x1b]0;owned\x07\n" + "x = '" + "y" * 300 + " HIDDEN'\n"


class Review:
    """The screen with one review, and what it gave back."""

    def __init__(self, review: CodeReview) -> None:
        self.app = Shown()
        self.screen = ConsentScreen(review, clock=lambda: 8200.0)
        self.results: list[bool | None] = []

    async def open(self, pilot: Pilot[None]) -> None:
        self.app.push_screen(self.screen, self.results.append)
        await pilot.pause()
        await pilot.pause()

    def source(self) -> str:
        view = self.screen.query_one(SourceView)
        return "\n".join(view.render_line(y).text.rstrip() for y in range(view.size.height)).rstrip()

    def files(self) -> str:
        view = self.screen.query_one(ChoiceList)
        return "\n".join(view.render_line(y).text for y in range(view.size.height))

    def about(self) -> str:
        rows = self.screen.query_one("#about", RowView)._rows
        return "\n".join("".join(span.text for span in row) for row in rows)

    def said(self) -> str:
        line = self.screen.query_one(Line)
        return str(line.content) if line.display else ""


def first_review(tmp_path: Path, **files: str) -> CodeReview:
    folder = code_folders.make(tmp_path / "models" / "strange", **files)
    return review_of(code_of(folder)[0], "strange", Consents(tmp_path / "consents"))


def second_review(tmp_path: Path) -> CodeReview:
    lines = [f"line_{number} = {number}" for number in range(200)]
    folder = code_folders.make(tmp_path / "models" / "strange", modeling_x="\n".join(lines))
    consents = Consents(tmp_path / "consents", clock=lambda: 1000.0)
    consents.agree(code_of(folder)[0])
    lines[100] = "line_100 = os.system('rm')"
    (folder / "modeling_x.py").write_text("\n".join(lines))
    return review_of(code_of(folder)[0], "strange", consents)


@pytest.mark.parametrize("size", [(120, 40), (80, 24), (40, 10)])
async def test_enter_agrees_to_nothing_and_f8_does(tmp_path: Path, size: tuple[int, int]) -> None:
    review = Review(first_review(tmp_path))
    async with review.app.run_test(size=size) as pilot:
        await review.open(pilot)
        await pilot.press("enter", "y", "space")
        await pilot.pause()
        assert review.results == []
        assert "F8" in review.said()
        await pilot.press("f8")
        await pilot.pause()
        assert review.results == [True]


async def test_escape_refuses(tmp_path: Path) -> None:
    review = Review(first_review(tmp_path))
    async with review.app.run_test(size=(80, 24)) as pilot:
        await review.open(pilot)
        await pilot.press("escape")
        await pilot.pause()
        assert review.results == [False]


@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
async def test_files_and_their_lines_are_read_with_keys(tmp_path: Path, size: tuple[int, int]) -> None:
    long = "".join(f"line_{number} = {number}\n" for number in range(300))
    review = Review(first_review(tmp_path, modeling_x=long))
    async with review.app.run_test(size=size) as pilot:
        await review.open(pilot)
        assert "2 files, 301 lines" in review.about()
        assert "class XConfig" in review.source()
        await pilot.press("right")
        await pilot.pause()
        assert "1   line_0 = 0" in review.source()
        await pilot.press("end")
        await pilot.pause()
        assert "300   line_299 = 299" in review.source()
        await pilot.press("home", "down", "down")
        await pilot.pause()
        assert review.source().lstrip().startswith("3   line_2")
        await pilot.press("left")
        await pilot.pause()
        assert "class XConfig" in review.source()


@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
async def test_nothing_in_a_line_is_out_of_sight(tmp_path: Path, size: tuple[int, int]) -> None:
    review = Review(first_review(tmp_path, configuration_x=HOSTILE))
    async with review.app.run_test(size=size) as pilot:
        await review.open(pilot)
        source = review.source()
        assert "user⟨U+202E⟩" in source
        assert "⟨U+001B⟩]0;owned⟨U+0007⟩" in source
        assert "HIDDEN" in source
        assert "\x1b" not in source
        assert "3 characters of configuration_x.py cannot be seen" in review.said()


async def test_what_changed_comes_first_and_d_shows_the_whole_file(tmp_path: Path) -> None:
    review = Review(second_review(tmp_path))
    async with review.app.run_test(size=(120, 40)) as pilot:
        await review.open(pilot)
        assert "2 h ago; 1 changed since" in review.about()
        assert review.files().splitlines()[0].split() == ["▌", "modeling_x.py", "changed"]
        source = review.source()
        assert "- line_100 = 100" in source
        assert "+ line_100 = os.system('rm')" in source
        assert "line_0 =" not in source
        await pilot.press("d")
        await pilot.pause()
        assert "line_0 = 0" in review.source()


# In the chat


async def test_check_25_the_chat_shows_the_code_and_loads_it_after_a_yes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = code_folders.make(tmp_path / "toy")
    async with chat_pilot(tmp_path, monkeypatch, load={"needs_consent": True}) as running:
        await running.until(lambda: isinstance(running.app.screen, ConsentScreen), "the code")
        assert running.app.bridge.loaded is None
        await running.pilot.press("f8")
        await running.until(lambda: running.is_idle, "the model")
        wish = running.app.bridge.wish
        assert wish is not None
        assert [file.name for file in wish.trusted] == ["configuration_x.py", "modeling_x.py"]
    # The next start asks nothing, and one byte is asked about again.
    async with chat_pilot(tmp_path, monkeypatch, load={"needs_consent": True}) as running:
        await running.until(lambda: running.is_idle, "the model")
    (folder / "modeling_x.py").write_text("class XForCausalLM: pass  \n")
    async with chat_pilot(tmp_path, monkeypatch, load={"needs_consent": True}) as running:
        await running.until(lambda: isinstance(running.app.screen, ConsentScreen), "the code")
        await running.pilot.press("escape")
        await running.until(lambda: "does not run" in running.notices, "the refusal")
        assert running.app.bridge.loaded is None
        assert running.state == "no model"


async def test_code_that_cannot_be_shown_is_refused_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code_folders.make(tmp_path / "toy", modeling_x="# coding: rot13\nvzcbeg bf\n")
    async with chat_pilot(tmp_path, monkeypatch, load={"needs_consent": True}) as running:
        banner = running.screen.banner
        await running.until(lambda: "not written in UTF-8" in banner.content.plain, "the refusal")
        assert not isinstance(running.app.screen, ConsentScreen)
