"""Columns of text for stdout; CJK is as wide as it is."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import accumulate

from tui.safe_text import safe_line

_GAP = "  "


def table_lines(header: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: str = "") -> list[str]:
    """Lines of a table; the last column is as long as it is.

    Args:
        header: one title per column.
        rows: as many cells each as the header (hostile text is made safe).
        numbers: one letter per column: "r" aligns it right.
    """
    lines = [[safe_line(cell) for cell in row] for row in [header, *rows]]
    widths = [max(width(line[column]) for line in lines) for column in range(len(header))]
    aligned = numbers.ljust(len(header))
    return [
        _GAP.join(_cell(*parts) for parts in zip(line, widths, aligned, strict=True)).rstrip()
        for line in lines
    ]


def width(text: str) -> int:
    """Columns that a text takes on a terminal."""
    return sum(_character_width(character) for character in text)


def shortened(text: str, columns: int) -> str:
    """As much of a text as fits so many columns, with an ellipsis where it is cut."""
    if width(text) <= columns:
        return text
    ends = accumulate(_character_width(character) for character in text)
    return text[: sum(end < columns for end in ends)] + "…"


def _character_width(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def _cell(text: str, columns: int, alignment: str) -> str:
    padding = " " * (columns - width(text))
    return padding + text if alignment == "r" else text + padding
