"""Line mode: the chat on a terminal that can show lines only, and for those who prefer them."""

from __future__ import annotations

import asyncio
import queue
import signal
import sys
from typing import TYPE_CHECKING

from engine import errors, events
from engine.commands import LoadModel
from engine.values import ChatMessage, FinishReason
from sessions import SessionError
from tui.bridge import Bridge, SavingProblem
from tui.history import messages_for
from tui.loader import BUILT_IN
from tui.open_session import OpenSession
from tui.past import finish_note
from tui.paths import FolderError, settings_file
from tui.safe_text import safe
from tui.settings import load_settings

if TYPE_CHECKING:
    from types import FrameType

    from sessions import Turn
    from tui.options import ChatOptions

_HELP = "/new begins a new session, /quit leaves, Ctrl+C stops a reply; the rest needs a screen."


def run_plain(options: ChatOptions) -> int:
    """Ask and answer line by line.

    Returns:
        The exit code: 0 good, 1 it failed.
    """
    chat = _PlainChat(options)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    try:
        return chat.run()
    except (errors.EngineError, SessionError, FolderError) as error:
        sys.stderr.write(f"{safe(str(error))}\n")
        return 1
    finally:
        chat.bridge.close()


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


class _PlainChat:
    """A prompt, its answer, and the next prompt."""

    def __init__(self, options: ChatOptions) -> None:
        """Prepare; `run` starts everything."""
        self._options = options
        self._settings = load_settings(settings_file()).settings
        self._arrived: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._runner = asyncio.Runner()
        self.bridge = Bridge(options, self._settings)

    def run(self) -> int:
        """Open, load, and talk until the input ends."""
        self.bridge.open(lambda: self._arrived.put(None))
        store = self.bridge.store
        if store is None:
            return 1
        talk = OpenSession(store, self._settings.system_prompt)
        self._load()
        self._resume(talk)
        while (line := _read_line()) is not None:
            if line == "/quit":
                break
            self._take_line(talk, line)
        self._runner.close()
        return 0

    def _load(self) -> None:
        from engine import find_model

        name = self._options.model or self._settings.last_model or BUILT_IN
        wish = LoadModel(
            model=find_model(name, self._settings.model_folders),
            context_window=self._options.context_window,
            quantization=self._options.quantization,
            budgets=self._options.budgets,
            trusted=self._options.trusted,
        )
        _write(f"loading {wish.model.name} ...\n")
        self.bridge.load(wish)
        for event in self._events_until(events.ModelLoaded):
            if isinstance(event, events.Failed):
                raise errors.EngineError(event.message, event.hint)

    def _events_until(self, last: type[events.Event]) -> list[object]:
        """Wait for an event of that kind, or a failure, and return all that came."""
        taken: list[object] = []
        while not any(isinstance(entry, (last, events.Failed)) for entry in taken):
            self._arrived.get()
            taken += self.bridge.take()
        return taken

    def _resume(self, talk: OpenSession) -> None:
        named = self._options.session or ""
        session_id = int(named) if named.isdecimal() else None
        if self._options.resume_last:
            session_id = self._runner.run(talk.latest_id())
        if session_id is None:
            return
        self._runner.run(talk.resume(session_id))
        for turn in talk.turns:
            _write(f"> {turn.prompt}\n{turn.reply}\n")
            if turn.state.value not in {"finished", "streaming"}:
                _write(f"[{turn.state.value}]\n")

    def _take_line(self, talk: OpenSession, line: str) -> None:
        if line == "/new":
            talk.begin_anew()
        elif line.startswith("/"):
            _write(f"{_HELP}\n")
        elif line.strip():
            self._ask(talk, line)

    def _ask(self, talk: OpenSession, line: str) -> None:
        loaded = self.bridge.loaded
        messages = messages_for(talk.turns, line, talk.system_prompt)
        turn = self._runner.run(talk.begin_turn(line, loaded.model.name if loaded else ""))
        self._answer(turn, messages)
        if (ended := self.bridge.ended_turn) is not None:
            talk.replace_last(ended.result())

    def _answer(self, turn: Turn, messages: tuple[ChatMessage, ...]) -> None:
        self.bridge.generate(turn, messages, self._settings.sampling)
        finished = False
        while not finished:
            try:
                self._arrived.get()
            except KeyboardInterrupt:
                self.bridge.stop()
            shown = [_show(entry) for entry in self.bridge.take()]
            finished = any(shown)


def _show(entry: object) -> bool:
    """Write one event; True when the reply has ended."""
    match entry:
        case events.TextDelta(text=text, reasoning=False):
            _write(text)
        case events.TurnFinished():
            _show_end(entry)
            return True
        case events.EngineEnded(message=message, hint=hint):
            _write(f"\n{message} {hint}\n")
        case SavingProblem(text=text) if text:
            _write(f"\n{text}\n")
        case _:
            pass
    return False


def _show_end(event: events.TurnFinished) -> None:
    failure = f"[{event.message} {event.hint}]" if event.finish_reason is FinishReason.FAILED else ""
    stopped = "[stopped]" if event.finish_reason is FinishReason.CANCELLED else ""
    _write(f"\n{failure}{stopped}[{finish_note(event)}]\n")


def _read_line() -> str | None:
    """One line of input without control characters; None at its end."""
    _write("> ")
    try:
        line = sys.stdin.readline()
    except KeyboardInterrupt:
        _write("\n")
        return None
    return str(safe(line.rstrip("\n"))) if line else None


def _write(text: str) -> None:
    sys.stdout.write(safe(text))
    sys.stdout.flush()
