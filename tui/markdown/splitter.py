"""Markdown cut into pieces while it streams, so that only the last piece is ever laid out again.

What is cut off is closed: no later text changes it. Where a cut falls depends on the text alone,
never on how it arrived, so a streamed reply looks as it does when it is opened again.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from tui.markdown.parser import parse_blocks
from tui.markdown.piece import CodePiece, MarkdownPiece, Piece, PlainPiece
from tui.markdown.rows import Ink

if TYPE_CHECKING:
    from markdown_it.token import Token

LONGEST_PIECE = 8192
"""Characters after which a block is cut, whatever it is."""
CODE_LINES = 64
"""Lines of code that are coloured together."""

_ENDS_BLANK = re.compile(r"\n[ \t]*\n\Z")
_BLANK_LINES = re.compile(r"(?:[ \t]*\n)+")
_FENCE = re.compile(r"( {0,3})(`{3,})([^`\n]*)$|( {0,3})(~{3,})([^\n]*)$", re.MULTILINE)
_HEADING = re.compile(r" {0,3}#{1,6}\s")
_FENCE_BEGUN = re.compile(r"(?:^|\n) {0,3}[`~]+$")


class _Start(NamedTuple):
    """Where a block begins.

    Attributes:
        line: counted from the start of the tail.
        ordinal: the item's number, if it is an item of an ordered list.
    """

    line: int
    ordinal: int | None = None


class _Fence(NamedTuple):
    """The fence that is open.

    Attributes:
        language: its first word.
        indent: blanks before it, which its lines lose as well.
        end: what closes it.
        is_continued: lines of it are cut off already.
    """

    language: str
    indent: int
    end: re.Pattern[str]
    is_continued: bool = False


class PlainSplitter:
    """Plain text cut at its newlines."""

    def __init__(self, ink: Ink = ()) -> None:
        """Begin with nothing read."""
        self._ink = ink
        self._tail = ""
        self._joins = False

    def feed(self, text: str) -> list[Piece]:
        """Add text; return the pieces that are closed by it."""
        self._tail += text
        closed: list[Piece] = []
        while (end := self._end()) is not None:
            piece, self._tail = self._tail[:end], self._tail[end:]
            closed.append(PlainPiece(piece.removesuffix("\n"), self._ink, joins=self._joins))
            self._joins = not piece.endswith("\n")
        return closed

    def open_piece(self) -> Piece | None:
        """The piece that is still being written."""
        return PlainPiece(self._tail, self._ink, joins=self._joins) if self._tail else None

    def _end(self) -> int | None:
        newline = self._tail.rfind("\n", 0, LONGEST_PIECE)
        if newline >= 0:
            return newline + 1
        return LONGEST_PIECE if len(self._tail) > LONGEST_PIECE else None


class MarkdownSplitter:
    """Markdown cut at its blocks, the items of its lists, and every `CODE_LINES` lines of code."""

    def __init__(self) -> None:
        """Begin with nothing read."""
        self._tail = ""
        self._looked_at = 0
        self._gap = False
        self._joins = False
        self._begun = False
        self._ordinal: int | None = None
        self._fence: _Fence | None = None

    def feed(self, text: str) -> list[Piece]:
        """Add text; return the pieces that are closed by it."""
        self._tail += text
        closed: list[Piece] = []
        while (pieces := self._close()) is not None:
            closed.extend(pieces)
        return closed

    def open_piece(self) -> Piece | None:
        """The piece that is still being written."""
        if self._fence is not None:
            shown = _FENCE_BEGUN.sub("", self._tail)
            return self._code(shown) if shown else None
        return self._markdown(self._tail, self._ordinal) if self._tail.strip() else None

    def _close(self) -> list[Piece] | None:
        """Cut the next pieces off the tail; None when it has to wait for more text."""
        complete = self._complete()
        is_full = len(self._tail) > LONGEST_PIECE
        if len(complete) == self._looked_at and not is_full:
            return None
        if self._fence is not None:
            pieces = self._close_code(self._fence, complete)
        elif self._skip_blank_lines(complete) or self._open_fence(complete):
            return []
        else:
            pieces = self._close_blocks(complete)
        if pieces is None and is_full:
            return [self._cut_long()]
        return pieces

    def _complete(self) -> str:
        """The lines of the tail that are whole, as far as a piece may reach."""
        return self._tail[: self._tail.rfind("\n", 0, LONGEST_PIECE) + 1]

    def _skip_blank_lines(self, complete: str) -> bool:
        found = _BLANK_LINES.match(complete)
        if found is None:
            return False
        self._gap = self._begun
        self._joins = False
        self._drop(found.end())
        return True

    def _drop(self, length: int) -> None:
        self._tail = self._tail[length:]
        self._looked_at = 0

    def _open_fence(self, complete: str) -> bool:
        line = complete.partition("\n")[0]
        found = _FENCE.match(line) if complete else None
        if found is None:
            return False
        indent, fence, words = found.group(1, 2, 3) if found[2] else found.group(4, 5, 6)
        end = re.compile(rf"^ {{0,3}}{re.escape(fence[0])}{{{len(fence)},}}[ \t]*\n", re.MULTILINE)
        self._fence = _Fence((words.split() or [""])[0], len(indent), end)
        self._drop(len(line) + 1)
        return True

    def _close_code(self, fence: _Fence, complete: str) -> list[Piece] | None:
        found = fence.end.search(complete)
        code = complete[: found.start()] if found else complete
        section = "".join(code.splitlines(keepends=True)[:CODE_LINES])
        if section != code or (found is None and code.count("\n") == CODE_LINES):
            self._fence = fence._replace(is_continued=True)
            return [self._cut(section, self._code(section))]
        if found is None:
            self._looked_at = len(complete)
            return None
        pieces: list[Piece] = [self._cut(code, self._code(code))] if code or not fence.is_continued else []
        self._drop(found.end() - len(code))
        self._fence = None
        return pieces

    def _close_blocks(self, complete: str) -> list[Piece] | None:
        lines = complete.split("\n")
        starts = _starts(parse_blocks(complete), self._ordinal)
        pieces: list[Piece] = []
        for start, following in pairwise(starts):
            source = "\n".join(lines[start.line : following.line]) + "\n"
            piece = self._markdown(source.rstrip("\n"), start.ordinal)
            pieces.append(self._cut(source, piece))
            self._ordinal = following.ordinal
        self._looked_at = 0 if pieces else len(complete)
        return pieces or None

    def _cut_long(self) -> Piece:
        """Cut a block that is too long: at a newline, else at a blank, else anywhere."""
        window = self._tail[:LONGEST_PIECE]
        end = max(window.rfind("\n"), 0) or max(window.rfind(" "), 0) or len(window) - 1
        source = window[: end + 1]
        make = self._code if self._fence else self._markdown
        piece = self._cut(source, make(source.removesuffix("\n")))
        self._joins = not source.endswith("\n")
        return piece

    def _cut(self, source: str, piece: Piece) -> Piece:
        """Take a piece off the tail and remember how the next one follows it."""
        self._drop(len(source))
        self._begun = True
        self._joins = False
        self._gap = self._fence is None and _ENDS_BLANK.search(source) is not None
        self._ordinal = None
        return piece

    def _code(self, source: str) -> CodePiece:
        assert self._fence is not None
        indent = self._fence.indent
        if indent:
            source = re.sub(rf"^ {{0,{indent}}}", "", source, flags=re.MULTILINE)
        return CodePiece(source, self._fence.language, gap=self._gap, joins=self._joins)

    def _markdown(self, source: str, ordinal: int | None = None) -> MarkdownPiece:
        gap = self._gap or (self._begun and _HEADING.match(source) is not None)
        return MarkdownPiece(source, ordinal, gap=gap, joins=self._joins)


def _starts(tokens: list[Token], ordinal: int | None) -> list[_Start]:
    """Where blocks and items of the outermost lists begin, in order, the first at line 0."""
    starts: dict[int, _Start] = {}
    number: int | None = None
    for token in tokens:
        if token.map is None or token.nesting < 0 or token.level > 1:
            continue
        if token.level == 0:
            number = int(token.attrs.get("start", 1)) if token.type == "ordered_list_open" else None
            number = ordinal if number is not None and not starts and ordinal is not None else number
            starts.setdefault(token.map[0], _Start(token.map[0], number))
        elif token.type == "list_item_open":
            starts[token.map[0]] = _Start(token.map[0], number)
            number = None if number is None else number + 1
    return list(starts.values())
