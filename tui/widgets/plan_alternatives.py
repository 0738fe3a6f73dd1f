"""Another plan: its number, what it asks, how it fits, how fast it would be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.values import Fits
from tui.format import format_size, format_speed
from tui.safe_text import safe_line
from tui.widgets.rows import Row, Span, padded, row_width, spread, wrapped

if TYPE_CHECKING:
    from engine.values import Alternative

_FIT_WORDS = {
    Fits.GPU: ("GPU", "success"),
    Fits.GPU_RAM: ("GPU and RAM", "success"),
    Fits.DISK: ("disk", "warning"),
    Fits.NO: ("", "muted"),
}
_NUMBER_CELLS = 3
_FIT_CELLS = 11
_SPEED_CELLS = 12


def alternative_rows(
    number: int, alternative: Alternative, width: int, *, is_chosen: bool = False
) -> list[Row]:
    """The sentence up to its first colon, or all of it, on more rows, where it is the chosen one."""
    fit, ink = _FIT_WORDS[alternative.fits]
    speed = format_speed(alternative.forecast.decode_tps) if alternative.forecast else _lacking(alternative)
    right = (Span(f"  {fit:<{_FIT_CELLS}}", ink), Span(f"{speed:>{_SPEED_CELLS}}", "text"))
    head, _, rest = alternative.change.partition(":")
    left = (Span(f"{number}  ", "accent"), Span(safe_line(head), "text"))
    first = spread(left, right, width) if row_width(right) < width else padded(left, width)
    if not (is_chosen and rest):
        return [first]
    told = wrapped(safe_line(rest.strip()), "muted", width - _NUMBER_CELLS)
    return [first, *((Span(" " * _NUMBER_CELLS), *row) for row in told)]


def _lacking(alternative: Alternative) -> str:
    """What it needs beyond what there is."""
    if alternative.ram_bytes:
        return f"+{format_size(alternative.ram_bytes)} RAM"
    return f"+{format_size(alternative.disk_bytes)} disk" if alternative.disk_bytes else ""
