"""Rows of coloured cells: how gauges and plans are drawn, and which cells of them changed."""

from __future__ import annotations

import textwrap
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size


class Span(NamedTuple):
    """Text of one colour.

    Attributes:
        text: without newlines; harmless.
        ink: a colour of the palette ("kv"), or "text", "strong", "warning".
    """

    text: str
    ink: str = "text"


Row = tuple[Span, ...]


def row_width(row: Row) -> int:
    """Cells of a row."""
    return sum(cell_len(span.text) for span in row)


def padded(row: Row, width: int) -> Row:
    """A row cut or filled to exactly `width` cells."""
    kept: list[Span] = []
    room = width
    for span in row:
        text = span.text if cell_len(span.text) <= room else _cut(span.text, room)
        kept.append(Span(text, span.ink))
        room -= cell_len(text)
    return (*kept, Span(" " * room)) if room else tuple(kept)


def _cut(text: str, room: int) -> str:
    return set_cell_size(text, room - 1) + "…" if room > 0 else ""


def spread(left: Row, right: Row, width: int) -> Row:
    """Two ends of one row; the left one is cut where both do not fit."""
    room = max(0, width - row_width(right))
    return padded((*padded(left, room), *right), width)


def wrapped(text: str, ink: str, width: int) -> list[Row]:
    """A sentence over as many rows as it takes."""
    return [padded((Span(line, ink),), width) for line in textwrap.wrap(text, max(1, width))]


def changed_span(old: Row, new: Row) -> tuple[int, int] | None:
    """First cell and number of cells in which two rows of one width differ; None when they are equal."""
    if old == new:
        return None
    before, after = _cell_list(old), _cell_list(new)
    if len(before) != len(after):
        return 0, max(len(before), len(after))
    different = [index for index, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]]
    return (different[0], different[-1] - different[0] + 1) if different else None


def _cell_list(row: Row) -> list[tuple[str, str]]:
    """What each cell shows; a mark without width belongs to the cell before it."""
    found: list[tuple[str, str]] = [("", "")]
    for span in row:
        for character in span.text:
            width = cell_len(character)
            if width:
                found += [(character, span.ink), *[("", span.ink)] * (width - 1)]
            else:
                found[-1] = (found[-1][0] + character, found[-1][1])
    return found[1:]
