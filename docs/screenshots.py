"""Pictures of the app for the README, drawn by the app: `python -m docs.screenshots`.

Engine process and screen are the real ones; the engine keeps to a script, and the machine's readings are
staged (docs/staged.py). Writes SVG to docs/screenshots/, and PNG beside it where rsvg-convert is installed.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from docs import staged
from engine.events import AnyEvent, MemoryLedger
from tui.app import VrambleApp
from tui.bridge import Bridge
from tui.options import ChatOptions
from tui.screens.models import ModelsScreen
from tui.screens.plan import PlanScreen
from tui.settings import Settings
from tui.widgets.memory_panel import MemoryPanel

if TYPE_CHECKING:
    from textual.pilot import Pilot

    from engine.commands import LoadModel

FOLDER = Path(__file__).parent / "screenshots"
SIZE = (120, 36)
PATIENCE = 300
_WEB_FONT = re.compile(r"@font-face \{.*?\}", re.DOTALL)


class StagedBridge(Bridge):
    """The bridge with made-up readings and a placement on two tiers."""

    def _open_monitor(self) -> None:
        """Nothing here is measured; `show_minute` gives the panel its readings."""

    def load(self, wish: LoadModel) -> None:
        """Load with the staged placement."""
        super().load(msgspec.structs.replace(wish, model=staged.MODEL, placement=staged.PLACEMENT))

    def _take(self, event: AnyEvent) -> None:
        super()._take(staged.LEDGER if isinstance(event, MemoryLedger) else event)


async def answering(pilot: Pilot[int]) -> None:
    """A reply on its way."""
    await ask(pilot, staged.QUESTION)
    await until(lambda: "weights = " in shown(pilot))
    await pilot.pause(0.3)


async def picker(pilot: Pilot[int]) -> None:
    """The models on this disk."""
    screen = ModelsScreen(
        lambda: staged.ENTRIES,
        staged.JUDGE,
        loaded=staged.MODEL.name,
        clock=lambda: staged.NOW,
    )
    pilot.app.push_screen(screen)
    await pilot.pause(0.3)


async def plan(pilot: Pilot[int]) -> None:
    """What lies where."""
    screen = PlanScreen(staged.PLAN.wish, lambda _: staged.PLAN, staged.LOADED)
    pilot.app.push_screen(screen)
    screen.show_measured(staged.HELD, staged.USAGE)
    await pilot.pause(0.3)


async def help_page(pilot: Pilot[int]) -> None:
    """Keys and commands."""
    await pilot.press("f1")
    await pilot.pause(0.3)


SHOTS: dict[str, tuple[Callable[[Pilot[int]], Awaitable[None]], str]] = {
    "chat": (answering, "vramble"),
    "light": (answering, "paper"),
    "models": (picker, "vramble"),
    "plan": (plan, "vramble"),
    "help": (help_page, "vramble"),
}


def show_minute(panel: MemoryPanel) -> None:
    """Let a minute of staged readings pass at once."""
    for second in range(0, 62, 2):
        panel.show_reading(staged.reading(second))


async def ask(pilot: Pilot[int], text: str) -> None:
    """Type a prompt and send it."""
    await pilot.press(*text, "enter")


def shown(pilot: Pilot[int]) -> str:
    """The text on the screen, as the picture has it."""
    return re.sub(r"<[^>]*>", "", pilot.app.export_screenshot()).replace("&#160;", " ")


async def until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so. Raises TimeoutError."""
    for _ in range(PATIENCE):
        if is_so():
            return
        await asyncio.sleep(0.1)
    raise TimeoutError("the screen never showed what was waited for")


async def draw(name: str) -> Path:
    """Draw one picture with an app of its own."""
    act, theme = SHOTS[name]
    bridge = StagedBridge(ChatOptions(model="guide", theme=theme), Settings())
    app = VrambleApp(bridge, Settings(theme=theme))
    async with app.run_test(size=SIZE) as pilot:
        await until(lambda: bridge.loaded is not None)
        show_minute(app.screen.query_one(MemoryPanel))
        await pilot.pause(0.7)
        await act(pilot)
        picture = app.export_screenshot(title="vramble")
    bridge.close()
    file = FOLDER / f"{name}.svg"
    file.write_text(_WEB_FONT.sub("", picture).replace("Fira Code", "DejaVu Sans Mono"), encoding="utf-8")
    return file


def to_png(file: Path) -> None:
    """Make a PNG beside a picture, where the program for it is installed."""
    program = shutil.which("rsvg-convert")
    if program:
        subprocess.run([program, "--zoom", "1.5", "-o", file.with_suffix(".png"), file], check=True)


def main() -> None:
    """Draw all pictures."""
    FOLDER.mkdir(exist_ok=True)
    for name in SHOTS:
        with tempfile.TemporaryDirectory() as home:
            script = Path(home, "script.json")
            reply = {"text": staged.ANSWER, "tokens_per_second": 60.0, "delay_seconds": 0.2}
            load = {"kv_bytes_per_token": 147456, "context_window": 32768}
            script.write_bytes(msgspec.json.encode({"replies": [reply], "load": load}))
            os.environ |= {"VRAMBLE_HOME": str(Path(home, "home")), "VRAMBLE_BACKEND": f"scripted:{script}"}
            file = asyncio.run(draw(name))
        to_png(file)
        print(file)


if __name__ == "__main__":
    main()
