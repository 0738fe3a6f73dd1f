"""Columns of a list: which of them there is room for, and a row's cells laid out in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tui.widgets.row_view import RowView
from tui.widgets.rows import Row, Span, padded, row_width

_GAP = 2
_FIRST_AT_LEAST = 32


class Column(NamedTuple):
    """One column but the first, which takes the room that is left.

    Attributes:
        title: above it.
        width: cells.
        is_right: figures stand at its right edge.
    """

    title: str
    width: int
    is_right: bool = False


def shown_columns(columns: Sequence[Column], width: int) -> int:
    """How many of the columns fit beside a readable first one; the last ones go first."""
    count = len(columns)
    while count and _taken(columns[:count]) + _FIRST_AT_LEAST > width:
        count -= 1
    return count


def _taken(columns: Sequence[Column]) -> int:
    return sum(column.width + _GAP for column in columns)


def column_row(first: Row, cells: Sequence[Span], columns: Sequence[Column], width: int) -> Row:
    """A first cell of any length, then one span for each column that fits."""
    shown = columns[: shown_columns(columns, width)]
    spans = [*padded(first, max(0, width - _taken(shown)))]
    for column, cell in zip(shown, cells, strict=False):
        spans += [Span(" " * _GAP), *_aligned(cell, column)]
    return tuple(spans)


def _aligned(cell: Span, column: Column) -> Row:
    blank = column.width - row_width((cell,))
    if column.is_right and blank > 0:
        return (Span(" " * blank), cell)
    return padded((cell,), column.width)


def title_row(first: str, columns: Sequence[Column], width: int) -> Row:
    """The columns' titles."""
    cells = [Span(column.title, "muted") for column in columns]
    return column_row((Span(first, "muted"),), cells, columns, width)


class ColumnHead(RowView):
    """The columns' titles above a list."""

    def __init__(self, first: str, columns: Sequence[Column], *, id: str | None = None) -> None:  # noqa: A002  # Textual's
        """Name the columns.

        Args:
            first: the first one's title.
            columns: the others.
            id: Textual's.
        """
        super().__init__(id=id)
        self._first = first
        self._columns = columns

    def on_resize(self) -> None:
        """Show the titles that there is room for."""
        self.show_rows([title_row(self._first, self._columns, self.content_size.width)])


def matches(search: str, *texts: str) -> bool:
    """Whether every word of a search occurs somewhere, in either case."""
    whole = "\n".join(texts).casefold()
    return all(word in whole for word in search.casefold().split())
