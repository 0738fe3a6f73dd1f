"""The last line of the screen: what the engine is doing, and how fast."""

from __future__ import annotations

import msgspec
from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from tui.format import format_duration, format_speed, format_tokens
from tui.safe_text import safe_line


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What the line says.

    Attributes:
        state: what the engine is doing ("answering"), in a few words.
        alert: something is wrong with it, and the words are drawn that way.
        decode_tps: tokens per second; 0 where there is nothing to tell.
        first_token: seconds to the first token; 0 where there is nothing to tell.
        context_used: tokens in the window.
        context_window: its size; 0 without a model.
    """

    state: str = "starting"
    alert: bool = False
    decode_tps: float = 0.0
    first_token: float = 0.0
    context_used: int = 0
    context_window: int = 0

    def figures(self, *, with_context: bool = True) -> str:
        """Speeds and context in one line, what is unknown left out."""
        parts = []
        if self.decode_tps:
            parts.append(format_speed(self.decode_tps))
        if self.first_token:
            parts.append(f"first token {format_duration(self.first_token)}")
        if self.context_window and with_context:
            parts.append(f"{format_tokens(self.context_used)} / {format_tokens(self.context_window)}")
        return " · ".join(parts)


class StatusLine(Widget):
    """State at the left, figures at the right; what does not fit is left out, the state last."""

    DEFAULT_CSS = """
    StatusLine { height: 1; padding: 0 2; color: $muted; }
    """
    status = reactive(Status())
    more_below = reactive(default=False)

    @property
    def _meter_is_shown(self) -> bool:
        classes = self.screen.classes
        return "-wide" in classes and "-high" in classes and "-no-memory" not in classes

    def render(self) -> Content:
        """One line as wide as the widget."""
        width = self.content_size.width
        status = self.status
        words = f"{safe_line(status.state)} · more below" if self.more_below else safe_line(status.state)
        state = Content.styled(words, "$error" if status.alert else "$muted")
        figures = Content(status.figures(with_context=not self._meter_is_shown))
        room = width - state.cell_length - figures.cell_length
        if room < 1:
            return state.truncate(width, ellipsis=True)
        return Content.assemble(state, " " * room, figures)
