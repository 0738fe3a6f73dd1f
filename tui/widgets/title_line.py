"""The first line of the screen: the model at the left, the session at the right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from tui.safe_text import safe_line

if TYPE_CHECKING:
    from textual.app import RenderResult

    from engine.events import ModelLoaded


class TitleLine(Widget):
    """`vramble   Qwen3-8B · bf16 · 2 tiers: gpu 28/36, stream 8/36        kernel notes`."""

    DEFAULT_CSS = """
    TitleLine { height: 1; padding: 0 2; color: $muted; }
    """
    model = reactive("no model")
    session = reactive("")

    def render(self) -> RenderResult:
        """One line as wide as the widget; the session's title gives way first."""
        width = self.content_size.width
        left = Content.assemble(("vramble", "bold $primary"), "   ", safe_line(self.model))
        room = width - left.cell_length - 3
        if room < len("…"):
            return left.truncate(width, ellipsis=True)
        right = Content(safe_line(self.session)).truncate(room, ellipsis=True)
        return Content.assemble(left, " " * (width - left.cell_length - right.cell_length), right)


_DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}


def describe_model(loaded: ModelLoaded) -> str:
    """Name, dtype and tiers in a few words; one tier is named without figures."""
    stored = loaded.placement.quantization.value
    dtype = stored if stored != "none" else _DTYPES.get(loaded.dtype, loaded.dtype)
    counts = loaded.placement.tier_counts()
    layers = sum(counts.values())
    tiers = ", ".join(f"{tier} {count}/{layers}" for tier, count in counts.items())
    if len(counts) == 1:
        tiers = f"all on {next(iter(counts))}"
    elif counts:
        tiers = f"{len(counts)} tiers: {tiers}"
    return " · ".join(part for part in (loaded.model.name, dtype, tiers) if part)
