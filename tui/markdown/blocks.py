"""Block tokens as lines: headings, lists, quotes, code, rules and tables, with their decoration."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tui.markdown.code import code_lines
from tui.markdown.inline import inline_lines
from tui.markdown.parser import parse
from tui.markdown.rows import PLAIN, Ink, Line, Span, Spans
from tui.markdown.table import Cell, Table

if TYPE_CHECKING:
    from markdown_it.token import Token

_BULLETS = ("• ", "◦ ", "▪ ")
_TASK = re.compile(r"\[([ xX])\] ")
_QUOTE = Span("│ ", ("bar",))


def markdown_lines(source: str, ordinal: int | None = None) -> Iterator[Line | Table]:
    """Lines and tables of a piece of Markdown, blank lines where the source has them.

    Args:
        source: whole blocks.
        ordinal: number of the first item, where the piece goes on with an ordered list.
    """
    return _Blocks(source, ordinal).lines()


class _Blocks:
    """One walk over the tokens of a piece."""

    def __init__(self, source: str, ordinal: int | None) -> None:
        self._source = source.split("\n")
        self._tokens = parse(source)
        self._ordinal = ordinal
        self._first: list[Span] = []
        self._rest: list[Span] = []
        self._depths: list[int] = []
        self._counters: list[int | None] = []
        self._ink: Ink = PLAIN
        self._row = 0

    def lines(self) -> Iterator[Line | Table]:
        index = 0
        while index < len(self._tokens):
            token = self._tokens[index]
            yield from self._gap(token)
            if token.type == "table_open":
                end = _closing(self._tokens, index, "table_close")
                yield self._table(self._tokens[index:end])
                index = end
            else:
                yield from self._block(token)
            index += 1

    def _gap(self, token: Token) -> Iterator[Line]:
        """A blank line, if the source has one before this block."""
        if token.nesting < 0 or token.map is None:
            return
        start = token.map[0]
        if start > self._row and not self._source[start - 1].strip(" >\t"):
            yield self._decorated((), blank=True)
        self._row = max(self._row, start + (token.type in {"inline", "fence", "code_block", "hr"}))

    def _block(self, token: Token) -> Iterator[Line]:
        if token.nesting > 0:
            self._open(token)
        elif token.nesting < 0:
            yield from self._close(token)
        elif token.type == "inline":
            yield from self._inline(token)
        elif token.type in {"fence", "code_block"}:
            yield from self._code(token)
        elif token.type == "hr":
            yield self._decorated(())._replace(rule=True)

    def _open(self, token: Token) -> None:
        match token.type:
            case "heading_open":
                self._ink = ("heading", token.tag)
            case "blockquote_open":
                self._indent(_QUOTE, _QUOTE)
                self._ink = (*self._ink, "quote")
            case "bullet_list_open":
                self._counters.append(None)
            case "ordered_list_open":
                self._counters.append(self._first_number(token))
            case "list_item_open":
                marker = self._marker()
                self._indent(Span(marker, ("marker",)), Span(" " * len(marker)))
            case _:
                pass

    def _first_number(self, token: Token) -> int:
        ordinal, self._ordinal = self._ordinal, None
        return int(token.attrs.get("start", 1)) if ordinal is None else ordinal

    def _marker(self) -> str:
        number = self._counters[-1]
        if number is None:
            return _BULLETS[(self._counters.count(None) - 1) % len(_BULLETS)]
        self._counters[-1] = number + 1
        return f"{number}. "

    def _indent(self, first: Span, rest: Span) -> None:
        self._depths.append(len(self._rest))
        self._first.append(first)
        self._rest.append(rest)

    def _close(self, token: Token) -> Iterator[Line]:
        match token.type:
            case "heading_close":
                self._ink = PLAIN
            case "bullet_list_close" | "ordered_list_close":
                self._counters.pop()
            case "list_item_close" | "blockquote_close":
                if self._first != self._rest:
                    yield self._decorated(())
                depth = self._depths.pop()
                del self._first[depth:], self._rest[depth:]
                self._ink = self._ink[:-1] if token.type == "blockquote_close" else self._ink
            case _:
                pass

    def _inline(self, token: Token) -> Iterator[Line]:
        for spans in inline_lines(token.children or (), self._ink):
            yield self._decorated(self._tasked(spans))

    def _tasked(self, spans: Spans) -> Spans:
        """A task list's box instead of the item's bullet."""
        found = _TASK.match(spans[0].text) if spans and self._counters and self._first != self._rest else None
        if found is None:
            return spans
        box = "☐ " if found[1] == " " else "☑ "
        self._first[-1] = Span(box, ("marker",))
        return (Span(spans[0].text[found.end() :], spans[0].ink), *spans[1:])

    def _code(self, token: Token) -> Iterator[Line]:
        language = token.info.split(maxsplit=1)[0] if token.info.strip() else ""
        first = self._decorated(()).first
        yield from code_lines(token.content, language, first, tuple(self._rest))

    def _table(self, tokens: list[Token]) -> Table:
        lead = self._decorated(()).first
        records: list[list[Cell]] = []
        for index, token in enumerate(tokens):
            if token.type == "tr_open":
                records.append([])
            elif token.type in {"th_open", "td_open"}:
                ink: Ink = ("strong",) if token.type == "th_open" else PLAIN
                records[-1].append(_cell(token, tokens[index + 1], ink))
        head, *body = records
        return Table(tuple(head), tuple(map(tuple, body)), lead)

    def _decorated(self, spans: Spans, *, blank: bool = False) -> Line:
        """A line behind the present decoration; a bullet is drawn once, and never on a blank line."""
        rest = tuple(self._rest)
        if blank:
            return Line((), rest, rest)
        first = tuple(self._first)
        self._first[:] = self._rest
        return Line(spans, first, rest)


def _cell(opening: Token, content: Token, ink: Ink) -> Cell:
    style = str(opening.attrs.get("style", ""))
    lines = inline_lines(content.children or (), ink)
    spans = tuple(span for line in lines for span in line)
    return Cell(spans, style.removeprefix("text-align:") or "left")


def _closing(tokens: list[Token], start: int, kind: str) -> int:
    return next(index for index in range(start, len(tokens)) if tokens[index].type == kind)
