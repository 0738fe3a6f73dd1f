"""What can be changed of a plan: a key, a name and a value each, laid out in columns."""

from __future__ import annotations

from typing import NamedTuple

from tui.widgets.rows import Row, Span, padded, row_width

_KEY_CELLS = 4
_NAME_CELLS = 10
_WIDE = 96
_WITH_NAME = 26
_GAP = 2


class Control(NamedTuple):
    """One thing that can be changed.

    Attributes:
        key: what is pressed ("q").
        name: of what changes ("weights").
        value: now; harmless.
    """

    key: str
    name: str
    value: str


def control_rows(controls: list[Control], width: int) -> list[Row]:
    """The controls in reading order, in three columns where there is room, else in two; names go first."""
    columns = 3 if width >= _WIDE else 2
    cell = width // columns
    rows = []
    for start in range(0, len(controls), columns):
        spans = [span for control in controls[start : start + columns] for span in _cell(control, cell)]
        rows.append(padded(tuple(spans), width))
    return rows


def _cell(control: Control, width: int) -> Row:
    name = (Span(f"{control.name:<{_NAME_CELLS}}", "muted"),) if width >= _WITH_NAME else ()
    head: Row = (Span(f"{control.key:<{_KEY_CELLS}}", "accent"), *name)
    value = padded((Span(control.value, "text"),), width - row_width(head) - _GAP)
    return padded((*head, *value), width)
