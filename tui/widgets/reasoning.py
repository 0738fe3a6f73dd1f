"""The fold over a reply's thinking: one row, and the text below it while it is open."""

from __future__ import annotations

from tui.markdown.piece import Block
from tui.markdown.rows import Row, Span


class Fold(Block):
    """The row that says how long the model thought, and opens its text.

    Attributes:
        is_open: the text is shown.
        tokens: of the thinking so far; 0 where it is not known.
        is_over: the answer has begun.
    """

    def __init__(self) -> None:
        """Begin folded, with the model thinking."""
        super().__init__()
        self.is_open = False
        self.tokens = 0
        self.is_over = False

    def lay_out(self, width: int) -> list[Row]:
        """Its one row."""
        return [Row((Span(self._label()[:width], ("fold",)),))]

    def rows(self, width: int) -> list[Row]:
        """As any block, but never kept: the label changes while the model thinks."""
        self._width = 0
        return super().rows(width)

    def _label(self) -> str:
        arrow = "▾" if self.is_open else "▸"
        if not self.is_over:
            return f"{arrow} thinking · {self.tokens:,} tokens" if self.tokens else f"{arrow} thinking"
        return f"{arrow} thought for {self.tokens:,} tokens" if self.tokens else f"{arrow} thought"
