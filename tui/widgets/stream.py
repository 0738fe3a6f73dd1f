"""Text that grows: pieces that are closed, the one that is open, and what has not been looked at yet."""

from __future__ import annotations

from tui.markdown.piece import Block, Piece
from tui.markdown.rows import BLANK, Row
from tui.markdown.splitter import MarkdownSplitter, PlainSplitter
from tui.safe_text import SafeText, safe


class Unread(Block):
    """The place of text that is not cut into pieces yet; its height is a guess."""

    def __init__(self, length: int) -> None:
        """Stand for `length` characters."""
        super().__init__()
        self._length = length

    def estimate(self, width: int) -> int:
        """Rows that the text may take."""
        return self._length // max(1, width * 3 // 4) + 1

    def lay_out(self, width: int) -> list[Row]:
        """Blank rows in its place."""
        return [BLANK] * self.estimate(width)


class Stream:
    """A text and the pieces it is made of.

    Attributes:
        closed: pieces that no later text changes.
        opened: the piece that is still being written.
    """

    def __init__(self, splitter: MarkdownSplitter | PlainSplitter) -> None:
        """Begin empty.

        Args:
            splitter: cuts the text into pieces.
        """
        self.closed: list[Piece] = []
        self.opened: Piece | None = None
        self._splitter = splitter
        self._read: list[str] = []
        self._unread: list[str] = []
        self._later = ""

    def __bool__(self) -> bool:
        """Whether any text has come."""
        return bool(self._read or self._later or self._unread)

    @property
    def text(self) -> SafeText:
        """All of it."""
        return safe("".join([*self._read, self._later, *self._unread]))

    @property
    def is_behind(self) -> bool:
        """Some text is not in the pieces yet."""
        return bool(self._later or self._unread)

    def append(self, text: SafeText) -> None:
        """Add text; `catch_up` makes pieces of it."""
        self._unread.append(text)

    def catch_up(self, limit: int | None = None) -> None:
        """Make pieces of all text so far, or of the next `limit` characters; the rest is not shown yet."""
        if not self.is_behind:
            return
        waiting = "".join([self._later, *self._unread])
        self._unread.clear()
        text, self._later = (waiting, "") if limit is None else (waiting[:limit], waiting[limit:])
        self._read.append(text)
        self.closed.extend(self._splitter.feed(text))
        self.opened = self._splitter.open_piece()

    def blocks(self, start: int = 0) -> list[Block]:
        """The pieces from index `start` on, and the place of the text that is not cut yet."""
        blocks: list[Block] = [*self.closed[start:]]
        if self.opened is not None:
            blocks.append(self.opened)
        if self._unread:
            blocks.append(Unread(sum(map(len, self._unread))))
        return blocks
