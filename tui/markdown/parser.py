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


@cache
def _grammar() -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable(list(_ADDED)).disable(list(_LEFT_OUT))


@cache
def _block_grammar() -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable(list(_ADDED)).disable([*_LEFT_OUT, "inline"])


def parse(source: str) -> list[Token]:
    """Tokens of a text, inline ones as children."""
    return _grammar().parse(source)


def parse_blocks(source: str) -> list[Token]:
    """Tokens of a text without its inline ones: enough to see where blocks begin."""
    return _block_grammar().parse(source)
