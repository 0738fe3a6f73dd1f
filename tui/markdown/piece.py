"""Blocks: what a column of the transcript is made of, each laid out once per width."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from tui.markdown.blocks import markdown_lines
from tui.markdown.code import code_lines
from tui.markdown.rows import BLANK, Ink, Line, Row, Span
from tui.markdown.table import Table, lay_out_table
from tui.markdown.wrap import wrap
from tui.safe_text import cap_marks


class Block(ABC):
    """Something that takes rows, as many as its text needs at a width."""

    def __init__(self, guess: int = 1) -> None:
        """Begin without rows.

        Args:
            guess: how many it may take, where `estimate` knows nothing better.
        """
        self._rows: list[Row] = []
        self._width = 0
        self._guess = guess

    def rows(self, width: int) -> list[Row]:
        """Its rows at `width` cells; laid out again only when the width has changed."""
        if width != self._width:
            self._rows = self.lay_out(width)
            self._width = width
        return self._rows

    def height(self, width: int) -> int:
        """How many rows it takes: exact where it is laid out at `width`, an estimate elsewhere."""
        return len(self._rows) if width == self._width else self.estimate(width)

    def is_laid_out(self, width: int) -> bool:
        """Whether its height is exact at `width`."""
        return width == self._width

    @abstractmethod
    def lay_out(self, width: int) -> list[Row]:
        """Make its rows; called by `rows` alone."""

    def estimate(self, width: int) -> int:
        """Rows it may take at `width`, without laying it out."""
        return self._guess if width else 0


class Piece(Block):
    """A stretch of text: whole Markdown blocks, lines of code, or plain lines.

    Attributes:
        source: as written.
        gap: a blank row comes before it.
        joins: it goes on with the line at which the piece above was cut for its length.
    """

    def __init__(self, source: str, *, gap: bool = False, joins: bool = False) -> None:
        """Take the source as written; nothing is laid out yet."""
        super().__init__()
        self.source = source
        self.gap = gap
        self.joins = joins

    def lay_out(self, width: int) -> list[Row]:
        """A blank row if there is a gap, then its lines, wrapped."""
        rows: list[Row] = [BLANK] if self.gap else []
        for line in self.lines():
            rows.extend(lay_out_table(line, width) if isinstance(line, Table) else wrap(line, width))
        if self.joins and rows:
            rows[0] = rows[0]._replace(wraps=True)
        return rows

    def estimate(self, width: int) -> int:
        """As many as at another width, in proportion; else one for each line and each `width` characters."""
        if self._width:
            return max(1, len(self._rows) * self._width // max(1, width))
        return self.source.count("\n") + len(self.source) // max(1, width) + 1 + self.gap

    @abstractmethod
    def lines(self) -> Iterable[Line | Table]:
        """Its lines before they are wrapped."""


class PlainPiece(Piece):
    """Lines shown as they were written, in one ink."""

    def __init__(self, source: str, ink: Ink = (), *, gap: bool = False, joins: bool = False) -> None:
        """Take text that is shown as it is, in one ink."""
        super().__init__(source, gap=gap, joins=joins)
        self.ink = ink

    def lines(self) -> Iterable[Line]:
        """One line for each newline; a line's indentation stays."""
        for text in cap_marks(self.source).expandtabs(4).split("\n"):
            yield Line((Span(text, self.ink),) if text else ())


class MarkdownPiece(Piece):
    """Whole blocks of Markdown.

    Attributes:
        ordinal: the number of its first item, where it goes on with an ordered list.
    """

    def __init__(
        self, source: str, ordinal: int | None = None, *, gap: bool = False, joins: bool = False
    ) -> None:
        """Take Markdown; `ordinal` numbers the first item of a list that goes on."""
        super().__init__(source, gap=gap, joins=joins)
        self.ordinal = ordinal

    def lay_out(self, width: int) -> list[Row]:
        """As any piece; the blank at which a long paragraph was cut is not lost."""
        rows = super().lay_out(width)
        if rows and self.source.endswith(" "):
            rows[-1] = rows[-1]._replace(spans=(*rows[-1].spans, Span(" ")))
        return rows

    def lines(self) -> Iterable[Line | Table]:
        """Its blocks, read as Markdown."""
        return markdown_lines(cap_marks(self.source), self.ordinal)


class CodePiece(Piece):
    """Lines of a fenced block of code, without its fences.

    Attributes:
        language: the fence's first word.
    """

    def __init__(self, source: str, language: str, *, gap: bool = False, joins: bool = False) -> None:
        """Take code without its fences."""
        super().__init__(source, gap=gap, joins=joins)
        self.language = language

    def lines(self) -> Iterable[Line]:
        """Its lines in their colours."""
        return code_lines(cap_marks(self.source), self.language)
