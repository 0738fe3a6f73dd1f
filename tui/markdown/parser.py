"""The one Markdown grammar: CommonMark with tables and strikethrough, without HTML and references."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

_ADDED = ("table", "strikethrough")
# A reference defined at the end would change blocks that are long on the screen; HTML is shown as text.
_LEFT_OUT = ("html_block", "html_inline", "reference")


_MOST_COLUMNS = 64
"""Of a table; more of them, times rows that leave them empty, would be cells by the ten thousand."""


@cache
def _grammar(*left_out: str) -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable(list(_ADDED)).disable([*_LEFT_OUT, *left_out])


def _left_out(source: str) -> tuple[str, ...]:
    has_wide_table = any(line.count("|") > _MOST_COLUMNS for line in source.split("\n"))
    return ("table",) if has_wide_table else ()


def parse(source: str) -> list[Token]:
    """Tokens of a text, inline ones as children."""
    return _grammar(*_left_out(source)).parse(source)


def parse_blocks(source: str) -> list[Token]:
    """Tokens of a text without its inline ones: enough to see where blocks begin."""
    return _grammar("inline", *_left_out(source)).parse(source)
