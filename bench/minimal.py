"""A minimal Textual app to compare with: `python -m bench.minimal [SCRIPT]`.

Without a script it draws one line and waits. With one (the same JSON as the scripted backend's) it streams
the first reply's text, a token at a time, into a Markdown widget through MarkdownStream.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from textual.app import App, ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Input, Markdown, Static

CHARACTERS_PER_TOKEN = 4


class Nothing(App[None]):
    """One line."""

    def compose(self) -> ComposeResult:
        """Lay it out."""
        yield Static("ready")


class Streaming(App[None]):
    """A Markdown widget that grows, and an input; Enter begins."""

    def __init__(self, text: str, tokens_per_second: float) -> None:
        """Prepare.

        Args:
            text: the Markdown.
            tokens_per_second: how fast it comes.
        """
        super().__init__()
        self.text = text
        self.pause = 1 / tokens_per_second

    def compose(self) -> ComposeResult:
        """Lay it out."""
        with VerticalScroll():
            yield Markdown()
        yield Input(placeholder="ready")

    def on_mount(self) -> None:
        """Stay at the end; do not blink."""
        self.query_one(VerticalScroll).anchor()
        self.query_one(Input).cursor_blink = False
        self.query_one(Input).focus()

    def on_input_submitted(self) -> None:
        """Begin to stream."""
        self.query_one(Input).clear()
        self.run_worker(self.stream())

    async def stream(self) -> None:
        """Write token after token, each at its moment."""
        stream = Markdown.get_stream(self.query_one(Markdown))
        began = time.monotonic()
        for index in range(0, len(self.text), CHARACTERS_PER_TOKEN):
            moment = began + index / CHARACTERS_PER_TOKEN * self.pause
            await asyncio.sleep(max(0.0, moment - time.monotonic()))
            await stream.write(self.text[index : index + CHARACTERS_PER_TOKEN])
        await stream.stop()


def main() -> None:
    """Run the one or the other."""
    if len(sys.argv) == 1:
        Nothing().run()
        return
    reply = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["replies"][0]
    Streaming(reply["text"], reply["tokens_per_second"]).run()


if __name__ == "__main__":
    main()
