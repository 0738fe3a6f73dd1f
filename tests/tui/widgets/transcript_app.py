"""An app that is a transcript and nothing else; as a program it shows what a file says.

`python -m tests.tui.widgets.transcript_app hostile FILE`: each string of the JSON list in FILE becomes a
turn, whose every text is that string; the reply comes a character at a time. It ends when all was shown.
`python -m tests.tui.widgets.transcript_app stream FILE`: the string streams; at its end the app writes the
rows it believes to be on the screen into FILE.rows, and waits.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from textual.app import App, ComposeResult

from themes import theme_named
from tui.messages import CopyRequested, EditRequested, RegenerateRequested
from tui.safe_text import install_strip_filter, safe, safe_line
from tui.widgets.transcript import Transcript
from tui.widgets.turn_parts import TurnMark


class TranscriptApp(App[None]):
    """A transcript, and what it asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.register_theme(theme_named("vramble"))
        self.theme = "vramble"
        self.animation_level = "none"
        self.transcript = Transcript()
        self.asked: list[CopyRequested | EditRequested | RegenerateRequested] = []
        install_strip_filter()

    def compose(self) -> ComposeResult:
        yield self.transcript

    def on_copy_requested(self, message: CopyRequested) -> None:
        self.asked.append(message)

    def on_edit_requested(self, message: EditRequested) -> None:
        self.asked.append(message)

    def on_regenerate_requested(self, message: RegenerateRequested) -> None:
        self.asked.append(message)

    def rows(self) -> list[str]:
        """What is on the screen."""
        size = self.transcript.size
        return [self.transcript.render_line(y).text.rstrip() for y in range(size.height)]


def add_hostile(transcript: Transcript, key: str, text: str) -> None:
    """A turn whose every text is hostile."""
    transcript.add_turn(key, safe(text), safe_line(text))
    for character in text[:200]:
        transcript.append(key, safe(character), reasoning=True)
    for character in text[:200]:
        transcript.append(key, safe(character))
    transcript.append(
        key, safe(f"\n\n```{text}\n{text}\n```\n\n[{text}]({text}) `{text}`\n\n| {text} |\n|--|\n")
    )
    transcript.finish(key, safe_line(text[:40]), TurnMark.FAILED, safe(text))


class HostileApp(TranscriptApp):
    """Pages through hostile text, then ends."""

    def __init__(self, texts: list[str]) -> None:
        super().__init__()
        self.texts = texts

    def on_mount(self) -> None:
        self.run_worker(self.show())

    async def show(self) -> None:
        for index, text in enumerate(self.texts):
            add_hostile(self.transcript, str(index), text)
            if index % 3 == 0:
                self.transcript.toggle_reasoning(index)
                await asyncio.sleep(0)
        await asyncio.sleep(0.2)
        self.transcript.scroll_home(animate=False)
        while not self.transcript.is_following:
            await asyncio.sleep(0.005)
            self.transcript.scroll_relative(y=self.transcript.size.height, animate=False)
        await asyncio.sleep(0.1)
        self.exit()


class StreamingApp(TranscriptApp):
    """Streams one reply after another, then writes down what should be on the screen."""

    def __init__(self, text: str, rows_file: Path) -> None:
        super().__init__()
        self.text = text
        self.rows_file = rows_file

    def on_mount(self) -> None:
        self.run_worker(self.show())

    async def show(self) -> None:
        self.transcript.add_turn("1", safe("first"), safe("model"))
        for at in range(0, len(self.text), 40):
            self.transcript.append("1", safe(self.text[at : at + 40]), reasoning=at < 200)
            await asyncio.sleep(0.01)
        self.transcript.finish("1", safe("212 tok"), TurnMark.STOPPED)
        await asyncio.sleep(0.5)
        self.rows_file.write_text(json.dumps(self.rows()))


if __name__ == "__main__":
    content = json.loads(Path(sys.argv[2]).read_text())
    if sys.argv[1] == "hostile":
        HostileApp(content).run()
    else:
        StreamingApp(content, Path(f"{sys.argv[2]}.rows")).run()
