"""How much of the context window is taken, and what the next turn may add."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from tui.format import format_size, format_tokens

if TYPE_CHECKING:
    from textual.app import RenderResult

_BAR_CELLS = 28


class ContextUse(msgspec.Struct, frozen=True, kw_only=True):
    """What the meter shows.

    Attributes:
        used: tokens in the window.
        window: its size in tokens; 0 without a model.
        next_turn: tokens that the next turn may add.
        kv_bytes_per_token: KV cache of one token, on all devices.
        device: where that lies ("GPU 0", "RAM").
    """

    used: int = 0
    window: int = 0
    next_turn: int = 0
    kv_bytes_per_token: int = 0
    device: str = ""

    @property
    def fits(self) -> bool:
        """The next turn has room."""
        return self.used + self.next_turn <= self.window

    def forecast(self) -> str:
        """What the next turn may add: "next turn +512 = +72 MiB RAM"."""
        if not self.window:
            return ""
        if not self.fits:
            return f"next turn: {format_tokens(max(0, self.window - self.used))} tok left"
        added = f"next turn +{format_tokens(self.next_turn)}"
        if not self.kv_bytes_per_token:
            return added
        return f"{added} = +{format_size(self.next_turn * self.kv_bytes_per_token)} {self.device}".rstrip()


class ContextMeter(Widget):
    """Three lines: figures, a bar with the next turn's share behind the used one, and the forecast."""

    DEFAULT_CSS = """
    ContextMeter { height: 3; padding: 0 1; color: $muted; }
    """
    use = reactive(ContextUse())

    def render(self) -> RenderResult:
        """Figures, bar and forecast, or that there is nothing to show."""
        use = self.use
        if not use.window:
            return Content("context  no model")
        figures = f"context {format_tokens(use.used)} / {format_tokens(use.window)}"
        color = "$muted" if use.fits else "$warning"
        return Content("\n").join([Content(figures), self._bar(), Content.styled(use.forecast(), color)])

    def _bar(self) -> Content:
        use = self.use
        cells = min(_BAR_CELLS, self.content_size.width)
        used = min(cells, -(-use.used * cells // use.window))
        added = min(cells - used, -(-use.next_turn * cells // use.window))
        return Content.assemble(
            ("━" * used, "$accent"),
            ("━" * added, "$accent 40%"),
            ("━" * (cells - used - added), "$line"),
        )
