"""Every user command carried out: one method each, named as in tui/commands.py."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import InvalidValue
from engine.values import Quantization
from sessions import SessionError
from tui.chat_dialogs import ChatDialogs
from tui.clipboard import copy
from tui.commands import BY_SLASH
from tui.editor import edit_text
from tui.format import format_duration, format_size, format_speed
from tui.paths import FolderError, settings_file, state_folder
from tui.sampling import NAMES, change, describe
from tui.settings import SettingsError, change_settings

if TYPE_CHECKING:
    from engine.values import TurnUsage
    from tui.chat import Chat

Outcome = Coroutine[Any, Any, None] | None

_QUANTIZATIONS = tuple(quantization.value for quantization in Quantization)


class ChatCommands:
    """Carries commands out; a method returns what is to be awaited, or None when it is done."""

    def __init__(self, chat: Chat) -> None:
        """Serve this chat."""
        self._chat = chat
        self._screen = chat.screen
        self._app = chat.screen.app
        self._bridge = chat.bridge
        self.dialogs = ChatDialogs(chat)

    def run(self, name: str, argument: str = "") -> Outcome:
        """Carry out the command of that name."""
        outcome: Outcome = getattr(self, f"do_{name}")(argument)
        return outcome

    def run_slash(self, slash: str, argument: str) -> None:
        """Carry out a slash command; an unknown one stays in the prompt."""
        command, written = BY_SLASH.get(slash), f"/{slash} {argument}".rstrip()
        if command is None:
            self._screen.prompt.take_back(written)
            self._app.say(f"There is no command /{slash}; /keys lists them all.", is_warning=True)
            return
        self._screen.prompt.accept(written)
        self._screen.run_command(command.name, argument)

    def choices(self) -> dict[str, tuple[str, ...]]:
        """By command name, what its first argument may be."""
        from themes import palette_files

        models = tuple(sorted(self._app.known_models))
        return {
            "theme": tuple(palette_files()),
            "set": tuple(f"{name} " for name in (*NAMES, "stop")),
            "model": models,
            "plan": models,
            "load": (*models, *_QUANTIZATIONS),
            "system": ("clear",),
        }

    def do_stop(self, _: str) -> None:
        """Stop the reply or the load; else put away what is in the way."""
        if self._bridge.stop():
            return
        if self._screen.banner.is_shown:
            self._screen.banner.hide()
        self._screen.clear_selection()
        self._screen.prompt.focus()

    def do_palette(self, _: str) -> None:
        """Open the palette."""
        self._app.action_command_palette()

    def do_new(self, _: str) -> None:
        """Begin a new session."""
        self._chat.begin_anew()

    async def do_resume(self, argument: str) -> None:
        """Resume a session by its number, or choose one."""
        if not argument:
            self.dialogs.choose_session()
        elif argument.isdecimal():
            await self._chat.resume(int(argument))
        else:
            self._app.say("A session is named by its number; /sessions lists them.", is_warning=True)

    def do_sessions(self, _: str) -> None:
        """List saved sessions."""
        self.dialogs.choose_session()

    def do_models(self, _: str) -> None:
        """Choose a model."""
        self.dialogs.choose_model()

    async def do_model(self, argument: str) -> None:
        """Load a model by name, or choose one."""
        if argument:
            await self._chat.loader.load_named(argument)
        else:
            self.dialogs.choose_model()

    async def do_load(self, argument: str) -> None:
        """Load a model, or the one of before again, with a quantization where one is named."""
        words = argument.split()
        quantization = next((Quantization(word) for word in words if word in _QUANTIZATIONS), None)
        name = " ".join(word for word in words if word not in _QUANTIZATIONS)
        loader = self._chat.loader
        if not name:
            loader.load_again(**({"quantization": quantization} if quantization else {}))
        elif (model := await loader.find(name)) is not None:
            loader.load(model, quantization)

    def do_unload(self, _: str) -> None:
        """Give the model's memory back."""
        self._bridge.unload()

    def do_context(self, argument: str) -> None:
        """Show the context window's use, or load the model again with another one."""
        digits = argument.replace(",", "").replace("_", "")
        if digits.isdecimal() and int(digits) > 0:
            self._chat.loader.load_again(context_window=int(digits))
            return
        if argument:
            self._app.say(f"{argument!r} is no number of tokens: /context 8192", is_warning=True)
        else:
            self._app.say(self._describe_context())

    def _describe_context(self) -> str:
        loaded, use = self._bridge.loaded, self._screen.context_meter.use
        if loaded is None:
            return "No model is loaded, so there is no context window."
        window = f"context {use.used:,} of {loaded.context_window:,} tok\n" + use.forecast()
        most = f", up to {loaded.max_context_window:,}" if loaded.max_context_window else ""
        return f"{window.rstrip()}\n/context TOKENS loads the model again with another window{most}."

    async def do_plan(self, argument: str) -> None:
        """Show what lies where, of the loaded or of a named model."""
        if argument:
            model = await self._chat.loader.find(argument)
            if model is not None:
                self.dialogs.plans.open(model)
        elif self._bridge.loaded is not None:
            self.dialogs.plans.open(self._bridge.loaded.model)
        elif self._bridge.wish is not None:
            self.dialogs.plans.open(self._bridge.wish.model)
        else:
            self.dialogs.choose_model()

    def do_memory(self, _: str) -> None:
        """Show or hide the memory panel."""
        self._screen.toggle_class("-no-memory")

    async def do_rename(self, argument: str) -> None:
        """Give the session another title."""
        if self._chat.talk.session is None or not argument:
            self._app.say("Write the new title after /rename, once something was said.")
            return
        await self._saved(self._chat.talk.rename(argument))
        self._screen.title_line.session = self._chat.talk.title

    async def do_system(self, argument: str) -> None:
        """Set, show or drop the system prompt."""
        talk = self._chat.talk
        if not argument:
            self._app.say(talk.system_prompt or "There is no system prompt.")
            return
        await self._saved(talk.tell_system("" if argument == "clear" else argument))
        self._app.say("The system prompt holds from the next message on.")

    def do_set(self, argument: str) -> None:
        """Set a sampling value, or show them all."""
        name, _, written = argument.partition(" ")
        if not written:
            recommended = self._bridge.loaded.sampling if self._bridge.loaded else None
            self._app.say(describe(self._chat.sampling, recommended))
            return
        try:
            self._chat.sampling = change(self._chat.sampling, name, written.strip())
        except InvalidValue as wrong:
            self._app.say(str(wrong), is_warning=True)
            return
        self._app.say(f"{name} is {written.strip()} from the next message on.")

    async def do_regen(self, _: str) -> None:
        """Another reply to the last prompt."""
        await self._chat.regenerate()

    async def do_resume_reply(self, _: str) -> None:
        """Go on with the last reply."""
        await self._chat.go_on()

    async def do_edit(self, _: str) -> None:
        """Write the last prompt anew."""
        await self._chat.edit()

    async def do_branch(self, argument: str) -> None:
        """Go to another branch."""
        if argument and not argument.isdecimal():
            self._app.say("A branch is named by its number: /branch 2", is_warning=True)
        else:
            await self._chat.show_branch(int(argument) if argument else None)

    async def do_undo(self, _: str) -> None:
        """Take the last prompt and reply off."""
        await self._chat.undo()

    async def do_copy(self, _: str) -> None:
        """Copy the last reply."""
        last = self._chat.talk.last
        text = self._screen.transcript.text_of(str(last.id)) if last is not None else ""
        if text:
            await self.copy_text(text)
        else:
            self._app.say("There is no reply to copy yet.")

    async def copy_text(self, text: str) -> None:
        """Copy, and say which way was taken."""
        try:
            file = state_folder() / "last-copy.txt"
        except FolderError as error:
            self._app.say(str(error), is_warning=True)
            return
        self._app.say(await asyncio.to_thread(copy, text, self._app.write_control, file))

    async def do_export(self, argument: str) -> None:
        """Write the session to a file."""
        session = self._chat.talk.session
        if session is None:
            self._app.say("Nothing was said yet.")
            return
        file = _export_file(argument, session.title)
        if await self._saved(self._chat.talk.export(file)):
            self._app.say(f"Written to {file}.")

    async def _saved(self, change: Coroutine[Any, Any, None]) -> bool:
        try:
            await change
        except SessionError as error:
            self._app.say(str(error), is_warning=True)
            return False
        return True

    def do_find(self, argument: str) -> None:
        """Go to the newest message that holds a text; without text, to the next one with the same."""
        transcript = self._screen.transcript
        wanted = argument or transcript.wanted
        if not wanted:
            self._app.say("Write what to look for: /find TEXT")
        elif transcript.find(wanted):
            transcript.focus()
        else:
            self._app.say(f"{wanted!r} is not in this talk.")

    def do_scroll_up(self, _: str) -> None:
        """Show what stands above, a page of it."""
        self._screen.transcript.scroll_page_up(animate=False)

    def do_scroll_down(self, _: str) -> None:
        """Show what stands below, a page of it."""
        self._screen.transcript.scroll_page_down(animate=False)

    def do_stats(self, _: str) -> None:
        """Counts and speeds of the last reply."""
        last = self._chat.events.last
        self._app.say(describe_usage(last.usage) if last else "There was no reply yet.")

    def do_theme(self, argument: str) -> None:
        """Change the colours, and keep them."""
        if not argument:
            self.dialogs.choose_theme()
        elif self._app.show_theme(argument):
            self._screen.run_worker(asyncio.to_thread(self._keep_theme, argument))

    def _keep_theme(self, name: str) -> None:
        try:
            change_settings(settings_file(), theme=name)
        except SettingsError as error:
            self._app.call_from_thread(self._app.say, str(error), is_warning=True)

    async def do_editor(self, _: str) -> None:
        """Write the prompt in $EDITOR."""
        prompt = self._screen.prompt
        edited = await edit_text(self._app, prompt.whole_text)
        if edited is not None:
            prompt.replace_all(edited)

    def do_keys(self, _: str) -> None:
        """All keys and commands."""
        self.dialogs.show_help()

    def do_help(self, _: str) -> None:
        """How to use this screen."""
        self.dialogs.show_help()

    def do_quit(self, _: str) -> None:
        """Save and leave."""
        self._app.leave()


def describe_usage(usage: TurnUsage) -> str:
    """A reply's counts and speeds in some lines."""
    new = usage.prompt_tokens - usage.reused_tokens
    speed = f" at {format_speed(usage.prefill_tps)}" if usage.prefill_tps else ""
    lines = [
        f"prompt {usage.prompt_tokens:,} tok, {new:,} of them computed{speed}",
        f"first token after {format_duration(usage.time_to_first_token)}",
        f"reply {usage.completion_tokens:,} tok at {format_speed(usage.decode_tps)}",
        f"context {usage.context_used:,} of {usage.context_window:,} tok",
    ]
    peaks = {"RAM of the engine": usage.peak_ram_bytes, "VRAM": usage.peak_vram_bytes}
    lines += [f"peak {name} {format_size(taken)}" for name, taken in peaks.items() if taken]
    return "\n".join(lines)


def _export_file(written: str, title: str) -> Path:
    name = re.sub(r"[^\w.-]+", "-", title).strip("-.")[:60] or "session"
    return Path(written or f"{name}.md").expanduser().absolute()
