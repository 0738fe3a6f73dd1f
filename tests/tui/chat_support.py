"""The chat with a scripted engine: in a pilot, and on a pty."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from tests.pty_driver import Terminal, terminal
from tui.app import VrambleApp
from tui.bridge import Bridge
from tui.options import ChatOptions
from tui.screens.chat import ChatScreen
from tui.settings import Settings

LONG = " ".join(f"word{number}" for number in range(4000))
READY = "ready"


def write_script(folder: Path, **script: Any) -> str:
    """A script's place as VRAMBLE_BACKEND names it."""
    file = folder / "script.json"
    file.write_text(json.dumps(script))
    return f"scripted:{file}"


def model_folder(folder: Path) -> Path:
    """A folder that is given as the model; a scripted engine does not look into it."""
    model = folder / "toy"
    model.mkdir(exist_ok=True)
    return model


class ChatPilot:
    """A chat that runs in a pilot."""

    def __init__(self, app: VrambleApp, pilot: Pilot[int]) -> None:
        self.app = app
        self.pilot = pilot

    @property
    def screen(self) -> ChatScreen:
        """The chat, whatever dialog lies over it."""
        screen = self.app.screen_stack[0]
        assert isinstance(screen, ChatScreen)
        return screen

    @property
    def state(self) -> str:
        """What the status line says of the engine."""
        return self.screen.status_line.status.state

    @property
    def is_idle(self) -> bool:
        """The model is loaded and nothing is being answered."""
        chat = self.screen.chat
        return chat is not None and self.state == READY and not chat.events.is_answering

    async def until(self, holds: Callable[[], object], what: str, seconds: float = 20) -> None:
        """Let the app run until something holds."""
        for _ in range(int(seconds / 0.02)):
            if holds():
                return
            await self.pilot.pause(0.02)
        said = f"{self.screen.banner.content.plain} {self.notices}".strip()
        raise AssertionError(f"{what} did not come; the engine is {self.state!r}; {said}")

    async def type(self, text: str) -> None:
        """Write a prompt and press Enter."""
        self.screen.prompt.replace_all(text)
        await self.pilot.press("enter")

    async def ask(self, text: str) -> str:
        """Ask and wait for the whole reply, which is returned."""
        chat = self.screen.chat
        assert chat is not None
        before = chat.talk.last
        await self.type(text)
        await self.until(lambda: chat.talk.last is not before and self.is_idle, "the reply")
        return self.reply

    @property
    def reply(self) -> str:
        """The last turn's reply as it is saved."""
        last = self.screen.chat.talk.last if self.screen.chat else None
        return last.reply if last else ""

    @property
    def notices(self) -> str:
        """All passing notices that are shown."""
        return "\n".join(str(notice.message) for notice in self.app._notifications)


@contextlib.asynccontextmanager
async def chat_pilot(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    size: tuple[int, int] = (120, 40),
    options: dict[str, Any] | None = None,
    **script: Any,
) -> AsyncIterator[ChatPilot]:
    """The app with a scripted engine, its model loading; closed on leaving."""
    monkeypatch.setenv("VRAMBLE_HOME", str(folder / "home"))
    monkeypatch.setenv("VRAMBLE_BACKEND", write_script(folder, **script))
    chosen = ChatOptions(**{"model": str(model_folder(folder)), **(options or {})})
    bridge = Bridge(chosen, Settings())
    app = VrambleApp(bridge, Settings())
    try:
        async with app.run_test(size=size) as pilot:
            yield ChatPilot(app, pilot)
    finally:
        bridge.close()


@contextlib.contextmanager
def chat_terminal(folder: Path, *arguments: str, **options: Any) -> Iterator[Terminal]:
    """The program on a pty with the script that lies in the folder."""
    env = {"VRAMBLE_HOME": str(folder / "home"), "VRAMBLE_BACKEND": f"scripted:{folder / 'script.json'}"}
    env |= options.pop("env", {})
    with terminal(*arguments, str(model_folder(folder)), env=env, **options) as opened:
        yield opened
