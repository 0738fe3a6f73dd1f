"""The talk itself: joins the prompt, the saved session, the engine and the transcript."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sessions import SessionError
from tui.chat_commands import ChatCommands
from tui.chat_events import ChatEvents
from tui.history import messages_for, messages_to_continue
from tui.loader import Loader
from tui.open_session import OpenSession
from tui.past import past_turn
from tui.paths import FolderError
from tui.safe_text import safe, safe_line
from tui.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from engine.values import ChatMessage
    from sessions import SessionStore, Turn
    from tui.bridge import Bridge
    from tui.screens.chat import ChatScreen

_PREVIEW = 60


class Chat:
    """What the person does with a talk; each method is one wish, refused in words when it cannot be.

    Attributes:
        talk: the session that is open.
        queued: prompts that wait for the model.
        sampling: how tokens are chosen.
    """

    def __init__(self, screen: ChatScreen, store: SessionStore) -> None:
        """Begin a new session.

        Args:
            screen: what is shown.
            store: where talk is saved.
        """
        settings: Settings = screen.bridge.settings
        self.screen = screen
        self.bridge: Bridge = screen.bridge
        self.talk = OpenSession(store, settings.system_prompt)
        self.sampling = settings.sampling
        self.queued: list[str] = []
        self._changing = asyncio.Lock()
        self.loader = Loader(screen)
        self.events = ChatEvents(self)
        self.commands = ChatCommands(self)

    async def begin(self) -> None:
        """Show the session that the command line names, and load the first model."""
        options = self.bridge.options
        for notice in self.talk.notices:
            self.screen.app.say(notice, is_warning=True)
        named = options.session or ""
        session_id = int(named) if named.isdecimal() else None
        if options.resume_last:
            session_id = await self.talk.latest_id()
        if session_id is not None:
            await self.resume(session_id)
        await self.loader.load_first()
        await asyncio.to_thread(self.commands.dialogs.find_models)

    def take_prompt(self, text: str) -> Coroutine[None, None, None] | None:
        """Accept or refuse a prompt at once, for the session that is shown now.

        Returns:
            what is left to do: have it answered. None where it waits for the model, or stays in the prompt.
        """
        if self._refused():
            self.screen.prompt.take_back(text)
            return None
        self.screen.prompt.accept(text)
        if self.bridge.loaded is None:
            self.queued.append(text)
            self.show_queue()
            return None
        self.events.is_answering = True  # from here on nobody leaves the session
        return self._ask(text)

    def _refused(self) -> bool:
        """Whether no prompt can be taken now; the person is told why, and the text stays."""
        if self.events.is_answering:
            self.screen.app.say("A reply is still being written; Esc stops it.")
        elif self.talk.read_only:
            self.screen.app.say(self.talk.read_only, is_warning=True)
        elif self.bridge.loaded is None and not self.bridge.loading:
            self.screen.app.say("No model is loaded; choose one with Ctrl+O.", is_warning=True)
        else:
            return False
        return True

    def show_queue(self) -> None:
        """Show which prompts wait for the model."""
        line = self.screen.waiting
        line.set_class(bool(self.queued), "-shown")
        if self.queued:
            preview = safe_line(self.queued[0][:_PREVIEW])
            more = f" and {len(self.queued) - 1} more" if self.queued[1:] else ""
            line.update(f"waits for the model: {preview}{more}")

    async def send_queued(self) -> None:
        """Send the prompt that has waited longest, if any."""
        if self.queued and self.bridge.loaded is not None and not self.events.is_answering:
            text = self.queued.pop(0)
            self.show_queue()
            await self._ask(text)

    def take_back_queued(self) -> bool:
        """Put what waits back into the prompt; False where nothing does."""
        if not self.queued:
            return False
        self.screen.prompt.replace_all("\n".join(self.queued))
        self.queued.clear()
        self.show_queue()
        return True

    async def _ask(self, text: str) -> None:
        """Commit the prompt, then draw it as sent, then have it answered."""
        self.events.is_answering = True
        async with self._changing:
            messages = messages_for(self.talk.turns, text, self.talk.system_prompt)
            try:
                turn = await self.talk.begin_turn(text, self.model_name)
            except SessionError as error:
                self.events.is_answering = False
                self.screen.prompt.replace_all(text)
                self.screen.banner.show(error.message, error.hint)
                return
        self.screen.transcript.add_turn(str(turn.id), safe(text), safe_line(self.model_name))
        self.screen.title_line.session = self.talk.title
        self._generate(turn, messages)

    def _generate(self, turn: Turn, messages: tuple[ChatMessage, ...], *, goes_on: bool = False) -> None:
        self.events.turn_began(turn)
        self.bridge.generate(turn, messages, self.sampling, goes_on=goes_on)

    async def turn_ended(self) -> None:
        """Keep the turn as it was saved, then send what waits."""
        ended = self.bridge.ended_turn
        if ended is not None:
            self.talk.replace_last(await asyncio.wrap_future(ended))
        self.events.is_answering = False
        await self.send_queued()

    @property
    def model_name(self) -> str:
        """The loaded model, as the transcript calls it."""
        return self.bridge.loaded.model.name if self.bridge.loaded else ""

    async def go_on(self) -> None:
        """Continue the last reply where it was cut short."""
        if self._refused():
            return
        if not self.talk.can_go_on:
            self.screen.app.say("There is no unfinished reply to continue.")
            return
        if self.bridge.loaded is None:
            self.screen.app.say("The model is still being loaded; /continue when it is ready.")
            return
        *past, unfinished = self.talk.turns
        messages = messages_to_continue(past, unfinished, self.talk.system_prompt)
        self.events.is_answering = True
        turn = await self.talk.go_on()
        self._show_open(turn)
        self._generate(turn, messages, goes_on=True)

    def _show_open(self, turn: Turn) -> None:
        """Draw the last turn as one that is being written."""
        transcript, key = self.screen.transcript, str(turn.id)
        transcript.show_history([past_turn(before) for before in self.talk.turns[:-1]])
        transcript.add_turn(key, safe(turn.prompt), safe_line(turn.model))
        transcript.append(key, safe(turn.reasoning), reasoning=True)
        transcript.append(key, safe(turn.reply))

    async def regenerate(self, turn_id: int | None = None) -> None:
        """Another reply to a prompt, the last one by default; the reply of before stays on its branch."""
        cut = await self._cut(turn_id)
        if cut is not None:
            await self._ask(cut.prompt)

    async def edit(self, turn_id: int | None = None) -> None:
        """Put a prompt back to be written anew; sending it begins a branch."""
        cut = await self._cut(turn_id)
        if cut is not None:
            self.screen.prompt.replace_all(cut.prompt)
            self.screen.prompt.focus()

    async def undo(self) -> None:
        """Take the last prompt and its reply off the branch."""
        cut = await self._cut(None)
        if cut is not None:
            self.screen.app.say("Taken off; /branch goes back to it.")

    async def _cut(self, turn_id: int | None) -> Turn | None:
        last = self.talk.last
        if last is None:
            self.screen.app.say("Nothing was said yet.")
            return None
        if self._refused():
            return None
        cut = await self.talk.cut_before(turn_id or last.id)
        self.show_turns()
        return cut

    async def show_branch(self, number: int | None) -> None:
        """Show another reply to the last prompt's place: the next one, or the one of that number."""
        branches = await self.talk.branches()
        shown = {turn.id for turn in self.talk.turns}
        if self.events.is_answering or all(turn.id in shown for turn in branches):
            self.screen.app.say("There is no other branch here.")
            return
        ids = [turn.id for turn in branches]
        here = next((n for n, turn_id in enumerate(ids) if turn_id in shown), 0)
        chosen = (here + 1) % len(ids) if number is None else number - 1
        if not 0 <= chosen < len(ids):
            self.screen.app.say(f"There are {len(ids)} branches here.")
            return
        await self.talk.show_branch(ids[chosen])
        self.show_turns()
        self.screen.app.say(f"Branch {chosen + 1} of {len(ids)}.")

    def begin_anew(self) -> None:
        """Leave the session for an empty one."""
        if self.events.is_answering:
            self.screen.app.say("A reply is still being written; Esc stops it.")
            return
        self.talk.begin_anew()
        self.show_turns()

    async def resume(self, session_id: int) -> None:
        """Show a saved session and go on with it."""
        if self.events.is_answering:
            self.screen.app.say("A reply is still being written; Esc stops it.")
            return
        try:
            async with self._changing:
                await self.talk.resume(session_id)
        except SessionError as error:
            self.screen.banner.show(error.message, error.hint)
            return
        self.show_turns()
        if self.talk.read_only:
            self.screen.app.say(self.talk.read_only, is_warning=True)
        elif self.talk.can_go_on:
            self.screen.app.say("The last reply was cut short; /continue goes on with it.")

    def show_turns(self) -> None:
        """Draw the active branch anew."""
        screen, turns = self.screen, self.talk.turns
        screen.transcript.show_history([past_turn(turn) for turn in turns])
        screen.prompt.remember([turn.prompt for turn in turns])
        screen.title_line.session = self.talk.title + (" · read only" if self.talk.read_only else "")
        self.events.branch_changed()


async def open_chat(screen: ChatScreen) -> Chat | None:
    """Start engine and store beside the screen, show what is to be resumed, and load the model.

    Returns:
        None when nothing can be saved, and the program therefore ends.
    """
    bridge = screen.bridge
    try:
        await asyncio.to_thread(bridge.open, screen.wake)
    except (FolderError, SessionError) as error:
        screen.app.leave(str(error))
        return None
    if bridge.store is None:
        return None
    chat = Chat(screen, bridge.store)
    screen.chat = chat
    await chat.begin()
    return chat
