"""What a layout is made of: spans of one ink, lines as written, rows as wide as the screen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from rich.cells import cell_len

Ink = tuple[str, ...]
"""Names of colours and weights ("strong", "code"), outermost first; the widget knows what they look like."""

PLAIN: Ink = ()


class Span(NamedTuple):
    """A run of text in one ink.

    Attributes:
        text: without newlines and tabs.
        ink: what it looks like.
    """

    text: str
    ink: Ink = PLAIN


Spans = tuple[Span, ...]


class Line(NamedTuple):
    """One line as written; as many rows as it takes at a width.

    Attributes:
        spans: its text.
        first: decoration before its first row ("• ").
        rest: decoration before its other rows, of the same width.
        fill: ink of the whole row to its right edge; empty for none.
        verbatim: wrapped at the edge, not between words.
        rule: drawn as a line across the width; has no text.
    """

    spans: Spans = ()
    first: Spans = ()
    rest: Spans = ()
    fill: Ink = PLAIN
    verbatim: bool = False
    rule: bool = False


class Row(NamedTuple):
    """One row of the screen.

    Attributes:
        spans: what is drawn, decoration first.
        lead: characters of decoration.
        wraps: it goes on with the line of the row above.
        fill: ink of the row to its right edge.
    """

    spans: Spans = ()
    lead: int = 0
    wraps: bool = False
    fill: Ink = PLAIN

    @property
    def drawn(self) -> str:
        """What is drawn, decoration and all."""
        return "".join([span.text for span in self.spans])

    @property
    def text(self) -> str:
        """What was written, without decoration."""
        return self.drawn[self.lead :]

    @property
    def cells(self) -> int:
        """How far to the right it reaches, its fill left out."""
        return sum(cell_len(span.text) for span in self.spans)


BLANK = Row()


def text_length(spans: Iterable[Span]) -> int:
    """Characters of all the spans together."""
    return sum(len(span.text) for span in spans)


def joined(rows: Iterable[Row]) -> str:
    """What the rows say, a newline where a line ends and none where it was only wrapped."""
    parts: list[str] = []
    for row in rows:
        parts.append(row.text if row.wraps or not parts else f"\n{row.text}")
    return "".join(parts)
