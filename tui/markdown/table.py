"""A table laid out into rows: columns as wide as their cells, narrowed together where the screen ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len

from tui.markdown.rows import BLANK, Row, Span, Spans, text_length
from tui.markdown.rows import Line as WrittenLine
from tui.markdown.wrap import wrap

_GAP = Span("  ")
_NARROWEST = 4


class Cell(NamedTuple):
    """One cell.

    Attributes:
        spans: its text, one line.
        align: "left", "center" or "right".
    """

    spans: Spans
    align: str = "left"


class Table(NamedTuple):
    """A table; its rows may be of different lengths.

    Attributes:
        head: cells of the first row.
        body: cells of the others.
        lead: decoration before every row.
    """

    head: tuple[Cell, ...]
    body: tuple[tuple[Cell, ...], ...]
    lead: Spans = ()


def lay_out_table(table: Table, width: int) -> list[Row]:
    """Rows of a table: the head, a line, the body; no row is wider than `width` cells where that can be."""
    room = width - _cells(table.lead)
    widths = _column_widths(table, room)
    rows = _record(table.head, widths, table.lead)
    rule = Span("─" * min(sum(widths) + len(_GAP.text) * (len(widths) - 1), max(1, room)), ("rule",))
    rows.append(Row((*table.lead, rule), text_length(table.lead) + len(rule.text)))
    for cells in table.body:
        rows.extend(_record(cells, widths, table.lead))
    return rows


def _cells(spans: Spans) -> int:
    return sum(cell_len(span.text) for span in spans)


def _column_widths(table: Table, room: int) -> list[int]:
    records = (table.head, *table.body)
    columns = max(map(len, records))
    wanted = [
        max(_cells(cells[index].spans) if index < len(cells) else 1 for cells in records) or 1
        for index in range(columns)
    ]
    return _narrowed(wanted, room - len(_GAP.text) * (columns - 1))


def _narrowed(wanted: list[int], room: int) -> list[int]:
    """Narrow the widest columns until all of them fit, or all are as narrow as may be."""
    low, high = _NARROWEST, max(*wanted, _NARROWEST)
    while low < high:
        middle = (low + high + 1) // 2
        fits = sum(min(want, middle) for want in wanted) <= room
        low, high = (middle, high) if fits else (low, middle - 1)
    return [min(want, low) for want in wanted]


def _record(cells: Sequence[Cell], widths: list[int], lead: Spans) -> list[Row]:
    columns = [
        _column(cells[index] if index < len(cells) else Cell(()), width) for index, width in enumerate(widths)
    ]
    return [_join(columns, index, lead) for index in range(max(map(len, columns)))]


def _column(cell: Cell, width: int) -> list[Spans]:
    rows = wrap(WrittenLine(cell.spans), width)
    return [_aligned(row.spans, width, cell.align) for row in rows]


def _aligned(spans: Spans, width: int, align: str) -> Spans:
    missing = width - _cells(spans)
    if missing <= 0:
        return _trimmed(spans)
    left = {"right": missing, "center": missing // 2}.get(align, 0)
    return (Span(" " * left), *spans, Span(" " * (missing - left)))


def _trimmed(spans: Spans) -> Spans:
    """Without the blanks at which the text was broken."""
    if not spans:
        return spans
    last = spans[-1]
    return (*spans[:-1], Span(last.text.rstrip(), last.ink))


def _join(columns: list[list[Spans]], index: int, lead: Spans) -> Row:
    spans = list(lead)
    for number, column in enumerate(columns):
        if number:
            spans.append(_GAP)
        spans.extend(column[index] if index < len(column) else (Span(" " * _cells(column[0])),))
    drawn = tuple(span for span in spans if span.text)
    return Row(drawn, text_length(lead)) if drawn else BLANK
