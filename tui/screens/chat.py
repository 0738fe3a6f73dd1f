"""The chat: widgets and where they lie; what comes from them and from the bridge is handed on."""

from __future__ import annotations

import asyncio
import gc
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import Screen
from textual.widgets import Static

from engine.downloads import Downloaded, DownloadFailed
from tui.commands import SCREEN_COMMANDS, completions, parse_slash
from tui.messages import (
    CopyRequested,
    DownloadEnded,
    EditRequested,
    EventsWaiting,
    FollowingChanged,
    PromptSubmitted,
    RegenerateRequested,
)
from tui.widgets.banner import Banner
from tui.widgets.context_meter import ContextMeter
from tui.widgets.load_progress import LoadBar
from tui.widgets.memory_panel import MemoryPanel
from tui.widgets.prompt import Prompt
from tui.widgets.status_line import StatusLine
from tui.widgets.title_line import TitleLine
from tui.widgets.transcript import Transcript

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from textual.app import ComposeResult

    from tui.app import VrambleApp
    from tui.bridge import Bridge
    from tui.chat import Chat

_FRAME_SECONDS = 0.05


class ChatScreen(Screen[None]):
    """Transcript, memory, prompt and status on one screen."""

    AUTO_FOCUS = "#prompt"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            command.key,
            f"command({command.name!r})",
            command.title,
            show=False,
            priority=command.name != "stop",
        )
        for command in SCREEN_COMMANDS
        if command.key and command.name not in {"palette", "quit"}
    ]
    app: VrambleApp

    def __init__(self, bridge: Bridge, shape: str = "") -> None:
        """Prepare the widgets.

        Args:
            bridge: opened by this screen after its first frame.
            shape: classes of the breakpoints that the first size meets.
        """
        super().__init__(classes=shape)
        self.bridge = bridge
        self.title_line = TitleLine(id="top")
        self.transcript = Transcript(id="transcript")
        self.memory = MemoryPanel(id="memory")
        self.context_meter = ContextMeter(id="context")
        self.load_bar = LoadBar(id="load")
        self.banner = Banner()
        self.waiting = Static(id="waiting", markup=False)
        self.prompt = Prompt(self._complete)
        self.status_line = StatusLine(id="status")
        self.chat: Chat | None = None
        self._taken_at = 0.0

    def compose(self) -> ComposeResult:
        """Lay out what the first frame shows."""
        yield self.title_line
        with Horizontal(id="body"):
            yield self.transcript
            with Vertical(id="side"):
                yield self.memory
                yield self.context_meter
        with Horizontal(id="ask"):
            yield Static("›", id="mark")
            yield self.prompt
        yield self.status_line

    def on_mount(self) -> None:
        """Start everything else once the first frame is painted."""
        self.set_class(not self.app.settings.memory_panel, "-no-memory")
        self.call_after_refresh(self._open_soon)

    def _open_soon(self) -> None:
        gc.enable()
        gc.freeze()
        self.mount(self.banner, self.load_bar, self.waiting, before="#ask")
        self.run_worker(self._open(), exit_on_error=True)

    async def _open(self) -> None:
        open_chat = await asyncio.to_thread(_prepared)
        await open_chat(self)

    def wake(self) -> None:
        """Have the screen take what the bridge has; from any thread."""
        self.post_message(EventsWaiting())

    def on_events_waiting(self) -> None:
        """Take events at once after a pause, else with the next frame."""
        wait = self._taken_at + _FRAME_SECONDS - monotonic()
        if wait <= 0:
            self._take_events()
        else:
            self.set_timer(wait, self._take_events)

    def _take_events(self) -> None:
        self._taken_at = monotonic()
        if self.chat is None:
            self.set_timer(_FRAME_SECONDS, self._take_events)
            return
        for entry in self.bridge.take():
            self.chat.events.show(entry)

    def command_caller(self, name: str) -> Callable[[], None]:
        """What the palette calls for a command."""
        return partial(self.run_command, name)

    def action_command(self, name: str) -> None:
        """Carry out the command of a key."""
        self.run_command(name)

    def run_command(self, name: str, argument: str = "") -> None:
        """Carry out a command; those that wait do so beside the screen."""
        if self.chat is None:
            self.app.say("Still starting.")
            return
        self.app.clear_notifications()  # what was said about the last wish is not about this one
        outcome = self.chat.commands.run(name, argument)
        if outcome is not None:
            self.run_worker(outcome, group="command")

    def on_prompt_submitted(self, message: PromptSubmitted) -> None:
        """Carry out a slash command, or ask."""
        text = str(message.text)  # the wire carries str, and none of its subclasses
        slash = parse_slash(text)
        if self.chat is None:
            self.prompt.take_back(text)
            self.app.say("Still starting; press Enter again in a moment.")
        elif slash is not None:
            self.chat.commands.run_slash(*slash)
        elif (answering := self.chat.take_prompt(text)) is not None:
            self.run_worker(answering, group="ask")

    def on_copy_requested(self, message: CopyRequested) -> None:
        """Copy a message's text."""
        if self.chat is not None:
            self.run_worker(self.chat.commands.copy_text(message.text))

    def on_following_changed(self, _message: FollowingChanged) -> None:
        """Say whether there is more below what is in view."""
        self.status_line.more_below = not self.transcript.is_following

    def on_download_ended(self, message: DownloadEnded) -> None:
        """Tell of a model that is there now, or will not be, also where the list of models is closed."""
        match message.end:
            case Downloaded(model=model):
                self.app.say(f"{model.name} is installed.")
            case DownloadFailed(message=cause, hint=hint):
                self.app.say(f"{cause} {hint}".strip(), is_warning=True)
            case _:
                pass

    def on_edit_requested(self, message: EditRequested) -> None:
        """Write a prompt anew."""
        if self.chat is not None:
            self.run_worker(self.chat.edit(int(message.turn_key)))

    def on_regenerate_requested(self, message: RegenerateRequested) -> None:
        """Ask for another reply."""
        if self.chat is not None:
            self.run_worker(self.chat.regenerate(int(message.turn_key)))

    def on_banner_remedy_chosen(self, message: Banner.RemedyChosen) -> None:
        """Do something about a failure."""
        if self.chat is not None:
            self.chat.loader.remedy(message.name)

    def on_banner_typed(self, message: Banner.Typed) -> None:
        """Go on writing in the prompt."""
        self.prompt.focus()
        self.prompt.insert(message.character)

    def on_banner_dismissed(self) -> None:
        """Give the focus back."""
        self.prompt.focus()

    def _complete(self, line: str) -> list[str]:
        return completions(line, self.chat.commands.choices() if self.chat else {})


def _prepared() -> Callable[[ChatScreen], Awaitable[Chat | None]]:
    """Import and build what the first frame does without; not on the loop, for keys are typed meanwhile."""
    from tui.chat import open_chat
    from tui.markdown.parser import parse, parse_blocks

    parse("")
    parse_blocks("")
    return open_chat
