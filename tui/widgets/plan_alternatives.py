"""Another plan in one row: its number, what it asks, how it fits, how fast it would be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.values import Fits
from tui.format import format_size, format_speed
from tui.safe_text import safe_line
from tui.widgets.rows import Row, Span, padded, row_width, spread

if TYPE_CHECKING:
    from engine.values import Alternative

_FIT_WORDS = {
    Fits.GPU: ("GPU", "success"),
    Fits.GPU_RAM: ("GPU and RAM", "success"),
    Fits.DISK: ("disk", "warning"),
    Fits.NO: ("", "muted"),
}
_FIT_CELLS = 11
_SPEED_CELLS = 12


def alternative_row(number: int, alternative: Alternative, width: int) -> Row:
    """One row; the sentence gives way first."""
    fit, ink = _FIT_WORDS[alternative.fits]
    speed = format_speed(alternative.forecast.decode_tps) if alternative.forecast else _lacking(alternative)
    right = (Span(f"  {fit:<{_FIT_CELLS}}", ink), Span(f"{speed:>{_SPEED_CELLS}}", "text"))
    left = (Span(f"{number}  ", "accent"), Span(safe_line(alternative.change), "text"))
    return spread(left, right, width) if row_width(right) < width else padded(left, width)


def _lacking(alternative: Alternative) -> str:
    """What it needs beyond what there is."""
    if alternative.ram_bytes:
        return f"+{format_size(alternative.ram_bytes)} RAM"
    return f"+{format_size(alternative.disk_bytes)} disk" if alternative.disk_bytes else ""
