"""Slash commands and keys of the chat."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.tui.chat_support import ChatPilot, chat_pilot
from tui.chat_commands import ChatCommands
from tui.commands import COMMANDS, SCREEN_COMMANDS, keys_page
from tui.screens.help import HelpScreen
from tui.screens.models import ModelsScreen
from tui.screens.plan import PlanScreen
from tui.screens.sessions import SessionsScreen
from tui.screens.themes import ThemesScreen

HELLO = {"text": "You said: {prompt}", "tokens_per_second": 0}
ROOT = Path(__file__).parent.parent.parent


async def ready(running: ChatPilot) -> None:
    await running.until(lambda: running.is_idle, "the model")


async def told(running: ChatPilot, command: str, answer: str) -> None:
    await running.type(command)
    await running.until(lambda: answer in running.notices, f"{answer!r} after {command}", 5)


def test_every_command_of_the_screen_can_be_carried_out() -> None:
    missing = [each.name for each in SCREEN_COMMANDS if not hasattr(ChatCommands, f"do_{each.name}")]
    assert not missing


def test_the_page_of_keys_holds_every_command() -> None:
    page = (ROOT / "docs" / "keys.md").read_text(encoding="utf-8")
    assert page == keys_page(), (
        "write it anew: python -c 'from tui.commands import *; print(keys_page(), end=\"\")'"
    )
    for command in COMMANDS:
        assert command.help in page
        assert not command.key or command.key_label in page
        assert not command.slash or f"`/{command.slash}" in page


def test_every_slash_command_of_the_contract_is_declared() -> None:
    wanted = (
        "model plan load unload new sessions resume rename system set regen edit branch undo copy export "
        "stats context theme keys help quit"
    )
    assert set(wanted.split()) <= {command.slash for command in COMMANDS}


def test_no_key_is_a_multiplexers_or_a_terminals() -> None:
    taken = {"ctrl+b", "ctrl+a", "ctrl+i", "ctrl+m", "ctrl+tab"}
    assert not taken & {command.key for command in COMMANDS}
    labels = {command.name: command.key_label for command in COMMANDS if command.key}
    assert (labels["copy"], labels["plan"], labels["stop"], labels["last"]) == ("Ctrl+Y", "F2", "Esc", "G")


@pytest.mark.parametrize(
    ("key", "dialog"),
    [("ctrl+o", ModelsScreen), ("ctrl+r", SessionsScreen), ("f1", HelpScreen), ("f2", PlanScreen)],
)
async def test_a_key_opens_its_dialog_and_escape_closes_it(
    key: str, dialog: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with chat_pilot(tmp_path, monkeypatch, replies=[HELLO]) as running:
        await ready(running)
        await running.pilot.press(key)
        await running.until(lambda: isinstance(running.app.screen, dialog), "the dialog", 5)
        await running.pilot.press("escape")
        await running.until(lambda: running.app.screen is running.screen, "the chat", 5)
        assert await running.ask("still there?") == "You said: still there?"


async def test_sampling_values_are_set_shown_and_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with chat_pilot(tmp_path, monkeypatch, replies=[HELLO]) as running:
        await ready(running)
        await told(running, "/set temperature 0.2", "temperature is 0.2")
        assert running.screen.chat is not None
        assert running.screen.chat.sampling.temperature == 0.2
        await told(running, "/set", "temperature 0.2")
        await told(running, "/set temperature hot", "must be a number")
        await told(running, "/set temperature 9", "between 0 and 5")
        await told(running, "/set charm 1", "no sampling value")
        await told(running, "/set temperature default", "temperature is default")
        assert running.screen.chat.sampling.temperature is None


async def test_commands_that_answer_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with chat_pilot(tmp_path, monkeypatch, replies=[HELLO]) as running:
        await ready(running)
        await told(running, "/stats", "no reply yet")
        await told(running, "/copy", "no reply to copy")
        await told(running, "/undo", "Nothing was said")
        await told(running, "/continue", "no unfinished reply")
        await told(running, "/resume seven", "named by its number")
        await told(running, "/context many", "no number of tokens")
        await told(running, "/find", "Write what to look for")
        await told(running, "/theme chartreuse", "no theme called")
        await running.ask("hello")
        await told(running, "/stats", "first token after")
        await told(running, "/branch", "no other branch")
        await told(running, "/branch off", "named by its number")
        await told(running, "/find kettle", "not in this talk")
        await running.type("/nonsense")
        await running.until(lambda: "no command /nonsense" in running.notices, "the notice")
        assert running.screen.prompt.text == "/nonsense"


async def test_an_export_holds_the_talk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with chat_pilot(tmp_path, monkeypatch, replies=[HELLO]) as running:
        await ready(running)
        await running.ask("write this down")
        for name in ("talk.md", "talk.json"):
            await told(running, f"/export {tmp_path / name}", f"Written to {tmp_path / name}")
    assert "You said: write this down" in (tmp_path / "talk.md").read_text()
    assert json.loads((tmp_path / "talk.json").read_text())["turns"][0]["prompt"] == "write this down"


async def test_the_context_window_is_changed_by_loading_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with chat_pilot(tmp_path, monkeypatch, replies=[HELLO]) as running:
        await ready(running)
        bridge = running.app.bridge
        await running.type("/context 2,048")
        await running.until(lambda: bridge.loaded and bridge.loaded.context_window == 2048, "the load")
        await ready(running)
        assert running.screen.context_meter.use.window == 2048
        await running.type("/load nf4")
        await running.until(lambda: bridge.wish and bridge.wish.quantization.value == "nf4", "the wish")
        assert bridge.wish
        assert bridge.wish.context_window == 2048


async def test_unload_gives_the_model_back_and_a_prompt_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with chat_pilot(tmp_path, monkeypatch, replies=[HELLO]) as running:
        await ready(running)
        await running.type("/unload")
        await running.until(lambda: running.state == "no model", "the unload")
        await told(running, "anyone there?", "No model is loaded")
        assert running.screen.prompt.text == "anyone there?"
        await running.type("/load")
        await ready(running)


async def test_an_unknown_model_is_a_sentence_with_a_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with chat_pilot(tmp_path, monkeypatch, replies=[HELLO]) as running:
        await ready(running)
        await running.type("/model no-such-model")
        await running.until(lambda: running.screen.banner.is_shown, "the banner")
        assert "no-such-model" in running.screen.banner.content.plain


async def test_the_theme_changes_and_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with chat_pilot(tmp_path, monkeypatch, replies=[HELLO]) as running:
        await ready(running)
        await running.type("/theme nord")
        settings = tmp_path / "home" / "settings.toml"
        await running.until(lambda: settings.exists() and "nord" in settings.read_text(), "the setting")
        assert running.app.theme == "nord"
        await running.type("/theme")
        await running.until(lambda: isinstance(running.app.screen, ThemesScreen), "the list")


async def test_the_palette_offers_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with chat_pilot(tmp_path, monkeypatch, replies=[HELLO]) as running:
        await ready(running)
        titles = {command.title for command in running.app.get_system_commands(running.screen)}
        assert {"Models", "Copy", "Quit", "Regenerate"} <= titles
        await running.pilot.press("ctrl+p")
        await running.until(lambda: running.app.screen is not running.screen, "the palette")


async def test_the_memory_panel_goes_and_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with chat_pilot(tmp_path, monkeypatch, replies=[HELLO]) as running:
        await ready(running)
        assert running.screen.memory.region.width > 0
        await running.pilot.press("f3")
        await running.until(lambda: not running.screen.query_one("#side").display, "it to go")
        await running.pilot.press("f3")
        await running.until(lambda: running.screen.query_one("#side").display, "it to come")


async def test_an_editor_that_cannot_be_opened_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with chat_pilot(tmp_path, monkeypatch, replies=[HELLO]) as running:
        await ready(running)
        await running.pilot.press("ctrl+g")
        await running.until(lambda: "editor could not be opened" in running.notices, "the notice")


async def test_the_context_is_told_without_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with chat_pilot(tmp_path, monkeypatch, replies=[HELLO], load={"context_window": 4096}) as running:
        await ready(running)
        await running.ask("hello")
        used = running.screen.context_meter.use.used
        await told(running, "/context", f"context {used} of 4,096 tok\nnext turn +512 = +64 MiB RAM\n")


async def test_a_new_wish_puts_away_what_was_said_about_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with chat_pilot(tmp_path, monkeypatch, replies=[HELLO]) as running:
        await ready(running)
        await told(running, "/undo", "Nothing was said")
        await told(running, "/stats", "no reply yet")
        assert "Nothing was said" not in running.notices
        await running.pilot.press("escape")
        assert not running.notices


async def test_text_is_found_in_the_talk_and_again_above_and_below(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with chat_pilot(tmp_path, monkeypatch, replies=[HELLO]) as running:
        await ready(running)
        for text in ("a Needle", "hay", "a needle too"):
            await running.ask(text)
        transcript = running.screen.transcript
        await running.type("/find NEEDLE")
        await running.until(lambda: transcript.has_focus, "the transcript")
        seen = [running.screen.get_selected_text() or ""]
        cursors = [transcript._cursor]
        for key in ("n", "n", "n", "N", "N"):
            await running.pilot.press(key)
            seen.append(running.screen.get_selected_text() or "")
            cursors.append(transcript._cursor)
        assert cursors == [5, 4, 1, 0, 1, 4]
        assert seen == ["needle", "needle", "Needle", "Needle", "Needle", "needle"]


async def test_a_talk_that_is_scrolled_up_says_that_there_is_more_below(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = {"text": "\n\n".join(f"line {n}" for n in range(99)), "tokens_per_second": 0}
    async with chat_pilot(tmp_path, monkeypatch, replies=[reply], size=(80, 24)) as running:
        await ready(running)
        await running.ask("hello")
        line = running.screen.status_line
        await running.pilot.press("pageup")
        await running.until(lambda: "ready · more below" in line.render().plain, "the hint")
        await running.pilot.press("pagedown")
        await running.until(lambda: "more below" not in line.render().plain, "the end")


async def test_the_picker_says_when_a_model_was_talked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with chat_pilot(tmp_path, monkeypatch, replies=[HELLO]) as running:
        await ready(running)
        assert running.screen.chat is not None
        dialogs = running.screen.chat.commands.dialogs
        store = running.screen.bridge.store
        assert store is not None
        session = await asyncio.wrap_future(store.create())
        await asyncio.wrap_future(store.begin_turn(session.id, None, "hello", "guide"))
        entries = await asyncio.to_thread(dialogs.find_models)
        used = {entry.model.name: entry.last_used for entry in entries}
        assert used["guide"] == (await asyncio.wrap_future(store.session(session.id))).updated_at
