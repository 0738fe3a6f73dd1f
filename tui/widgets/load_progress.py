"""How far a load is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from engine.events import LoadProgress
from engine.values import LoadStage
from tui.format import format_duration, format_used
from tui.safe_text import safe_line

if TYPE_CHECKING:
    from textual.app import RenderResult

_STAGES = {
    LoadStage.IMPORT: "starting the libraries",
    LoadStage.READ: "reading",
    LoadStage.PLACE: "placing",
    LoadStage.QUANTIZE: "quantizing",
    LoadStage.WARM_UP: "warming up",
}
_BAR_CELLS = 24
_WIDTH_WITH_BAR = 70


class LoadBar(Widget):
    """One line while a model loads: the stage, a bar, bytes, seconds left, and how to stop it."""

    DEFAULT_CSS = """
    LoadBar { height: 1; padding: 0 2; display: none; color: $muted; }
    LoadBar.-loading { display: block; }
    """
    progress: reactive[LoadProgress | None] = reactive(None)
    model = reactive("")

    def begin(self, name: str) -> None:
        """Show the line for the model of this name."""
        self.model = name
        self.progress = None
        self.add_class("-loading")

    def end(self) -> None:
        """Hide the line."""
        self.remove_class("-loading")

    def render(self) -> RenderResult:
        """One line as wide as the widget."""
        parts = [Content(f"loading {safe_line(self.model)} · {self.sentence()}")]
        if self.content_size.width >= _WIDTH_WITH_BAR:
            parts.insert(0, self._bar())
        parts.append(Content.styled(" · Esc stops", "$muted"))
        return Content.assemble(*parts).truncate(self.content_size.width, ellipsis=True)

    def sentence(self) -> str:
        """Stage, bytes and time left: "reading 1.2 / 15.3 GiB, 12 s left"."""
        progress = self.progress
        if progress is None:
            return "waiting for the engine"
        words = _STAGES[progress.stage]
        if progress.total_bytes:
            words += f" {format_used(progress.done_bytes, progress.total_bytes)}"
        if progress.seconds_left is not None:
            words += f", {format_duration(progress.seconds_left)} left"
        return words

    def _bar(self) -> Content:
        progress = self.progress
        share = progress.done_bytes / progress.total_bytes if progress and progress.total_bytes else 0.0
        filled = round(_BAR_CELLS * min(1.0, share))
        return Content.assemble(("━" * filled, "$accent"), ("━" * (_BAR_CELLS - filled) + "  ", "$line"))
