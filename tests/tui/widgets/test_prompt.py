"""The prompt: sending, lines, recall, completion and long pastes."""

from __future__ import annotations

import time
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from textual import events
from textual.app import App, ComposeResult

from tui.commands import completions, parse_slash
from tui.messages import PromptSubmitted
from tui.widgets.prompt import LONG_PASTE, Prompt


class PromptApp(App[None]):
    """A prompt alone."""

    def __init__(self) -> None:
        super().__init__()
        self.prompt = Prompt(self.complete)
        self.sent: list[str] = []

    def compose(self) -> ComposeResult:
        yield self.prompt

    def complete(self, line: str) -> Sequence[str]:
        return completions(line, {"theme": ("nord", "gruvbox", "paper")})

    def on_prompt_submitted(self, message: PromptSubmitted) -> None:
        self.sent.append(str(message.text))
        self.prompt.accept(message.text)


async def test_enter_sends_and_control_j_breaks_the_line() -> None:
    app = PromptApp()
    async with app.run_test() as pilot:
        app.prompt.focus()
        await pilot.press("a", "ctrl+j", "b", "shift+enter", "c", "enter")
        assert app.sent == ["a\nb\nc"]
        assert app.prompt.text == ""
        await pilot.press("enter", "space", "enter")
        assert app.sent == ["a\nb\nc"]


async def test_up_and_down_recall_at_the_edges_and_keep_the_draft() -> None:
    app = PromptApp()
    async with app.run_test() as pilot:
        app.prompt.focus()
        app.prompt.remember(["first", "second\nline"])
        await pilot.press("d", "r", "up")
        assert app.prompt.text == "second\nline"
        await pilot.press("up")
        assert app.prompt.text == "first"
        await pilot.press("up")
        assert app.prompt.text == "first"
        await pilot.press("down")
        assert app.prompt.text == "second\nline"
        await pilot.press("down", "down")
        assert app.prompt.text == "dr"


async def test_tab_completes_names_then_arguments_and_goes_round() -> None:
    app = PromptApp()
    async with app.run_test() as pilot:
        app.prompt.focus()
        app.prompt.replace_all("/the")
        await pilot.press("tab")
        assert app.prompt.text == "/theme "
        await pilot.press("tab", "tab")
        assert app.prompt.text in {"/theme nord", "/theme gruvbox"}
        app.prompt.replace_all("/theme g")
        await pilot.press("tab")
        assert app.prompt.text == "/theme gruvbox"
        app.prompt.replace_all("plain text")
        await pilot.press("tab")
        assert app.prompt.text == "plain text"


async def test_a_long_paste_is_one_line_and_is_sent_whole() -> None:
    pasted = "lorem ipsum\r\n" * 20_000
    app = PromptApp()
    async with app.run_test() as pilot:
        app.prompt.focus()
        await pilot.press("a")
        began = time.monotonic()
        app.prompt.post_message(events.Paste(pasted))
        await pilot.pause()
        assert time.monotonic() - began < 2
        assert len(app.prompt.text) < 80
        await pilot.press("z", "enter")
        assert app.sent == ["a" + pasted.replace("\r\n", "\n") + "z"]


async def test_a_hostile_paste_becomes_harmless() -> None:
    app = PromptApp()
    async with app.run_test() as pilot:
        app.prompt.focus()
        app.prompt.post_message(events.Paste("a\x1b]52;c;eA==\x07b[@click=app.quit]c"))
        await pilot.pause()
        assert "\x1b" not in app.prompt.text
        assert app.prompt.text.endswith("b[@click=app.quit]c")
        assert len(app.prompt.text) < LONG_PASTE


@given(st.text())
def test_a_slash_line_is_split_without_loss(line: str) -> None:
    parsed = parse_slash(line)
    if parsed is not None:
        name, argument = parsed
        assert line[1:].startswith(name)
        assert argument == line[1 + len(name) :].strip()


def test_paths_and_double_slashes_are_talk() -> None:
    assert parse_slash("/etc/passwd says") is None
    assert parse_slash("//set") is None
    assert parse_slash("no slash") is None
    assert parse_slash("/set top_p 0.9") == ("set", "top_p 0.9")


async def test_keys_that_come_in_one_packet_count_in_their_order() -> None:
    app = PromptApp()
    async with app.run_test() as pilot:
        app.prompt.focus()
        for key in ("o", "ctrl+u", "a", "x", "backspace", "c", "left", "b", "enter", "d", "home", "e"):
            app.prompt.post_message(events.Key(key, key if len(key) == 1 else None))
        await pilot.pause()
        assert app.sent == ["abc"]
        assert app.prompt.text == "ed"


async def test_what_is_not_taken_comes_back_before_what_was_typed_meanwhile() -> None:
    app = PromptApp()
    async with app.run_test():
        app.prompt.replace_all(" and this")
        app.prompt.take_back("that")
        assert app.prompt.text == "that and this"
