"""Rows of a layout as Strips in the theme's colours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from tui.markdown.rows import BLANK, PLAIN, Ink, Row, Span
from tui.widgets.turn_parts import MARGIN

CURSOR = "▌"
_KEPT = 400


class Reach(NamedTuple):
    """How far a row's drawing goes.

    Attributes:
        cells: from the left; what is right of them is blank, or filled.
        fill: with what.
    """

    cells: int
    fill: Ink


class Place(NamedTuple):
    """A row where it stands.

    Attributes:
        row: what to draw.
        indent: blanks before it.
        under_cursor: it belongs to the message that is chosen.
    """

    row: Row
    indent: int
    under_cursor: bool = False

    @property
    def reach(self) -> Reach:
        """How much of the row is not blank."""
        return Reach(
            self.indent + self.row.cells if self.row.spans else int(self.under_cursor), self.row.fill
        )


class Selected(NamedTuple):
    """Characters of a row that are selected.

    Attributes:
        start: the first of them.
        end: the first that is not; -1 is the row's end.
        style: what they look like.
    """

    start: int
    end: int
    style: Style

    def shifted(self, by: int) -> Selected:
        """The same, counted from a later character."""
        end = -1 if self.end == -1 else max(0, self.end - by)
        return self._replace(start=max(0, self.start - by), end=end)


NOWHERE = Place(BLANK, 1)


class Painter:
    """Draws rows, and keeps the Strips of those drawn lately."""

    def __init__(self, resolve: Callable[[Ink], Style]) -> None:
        """Draw with a theme's colours.

        Args:
            resolve: what an ink looks like now.
        """
        self._resolve = resolve
        self._styles: dict[Ink, Style] = {}
        self._strips: dict[tuple[int, int], tuple[Place, Strip]] = {}

    def forget(self) -> None:
        """Drop what was kept; the colours have changed."""
        self._styles.clear()
        self._strips.clear()

    def style(self, ink: Ink) -> Style:
        """What an ink looks like."""
        style = self._styles.get(ink)
        if style is None:
            style = self._styles[ink] = self._resolve(ink)
        return style

    def strip(self, place: Place, y: int, width: int) -> Strip:
        """A row as a Strip of `width` cells that knows its offsets at `y`."""
        kept = self._strips.get((y, width))
        if kept is not None and kept[0] == place:
            return kept[1]
        if len(self._strips) > _KEPT:
            self._strips.clear()
        strip = self._draw(place, width).apply_offsets(0, y)
        self._strips[y, width] = (place, strip)
        return strip

    def selected(self, place: Place, y: int, width: int, selected: Selected) -> Strip:
        """As `strip`, with some of its characters selected."""
        segments: list[Segment] = []
        at = 0
        for text, style, _ in self._segments(place):
            segments.extend(_split(text, style or self.style(PLAIN), selected.shifted(at)))
            at += len(text)
        return self._fit(segments, place, width).apply_offsets(0, y)

    def _draw(self, place: Place, width: int) -> Strip:
        return self._fit(self._segments(place), place, width)

    def _fit(self, segments: list[Segment], place: Place, width: int) -> Strip:
        cells = sum(cell_len(segment.text) for segment in segments)
        fill = place.row.fill
        if fill and cells < width - MARGIN:
            segments = [*segments, Segment(" " * (width - MARGIN - cells), self.style(fill))]
        strip = Strip(segments).crop_extend(0, width, self.style(PLAIN))
        return Strip(_merged(strip), width)

    def _segments(self, place: Place) -> list[Segment]:
        row, indent, under_cursor = place
        margin = [Span(" " * indent)]
        if under_cursor:
            margin = [Span(CURSOR, ("cursor",)), Span(" " * (indent - 1))]
        return [Segment(span.text, self.style(span.ink)) for span in (*margin, *row.spans) if span.text]


def _merged(segments: Iterable[Segment]) -> Iterator[Segment]:
    """Join neighbours of one style: each costs the terminal forty bytes of colour."""
    for style, group in groupby(segments, key=itemgetter(1)):
        yield Segment("".join([segment.text for segment in group]), style)


def _split(text: str, style: Style, selected: Selected) -> Iterator[Segment]:
    end = len(text) if selected.end == -1 else max(selected.start, selected.end)
    parts = (
        (text[: selected.start], style),
        (text[selected.start : end], style + selected.style),
        (text[end:], style),
    )
    return (Segment(part, ink) for part, ink in parts if part)
