"""Inline tokens as spans: emphasis, code, links as text with their address. Nothing is ever opened."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tui.markdown.rows import PLAIN, Ink, Span, Spans
from tui.safe_text import safe

if TYPE_CHECKING:
    from markdown_it.token import Token

_INKS = {"strong_open": "strong", "em_open": "em", "s_open": "strike", "link_open": "link"}
_BREAKS = frozenset({"softbreak", "hardbreak"})


def inline_lines(tokens: Iterable[Token], ink: Ink = PLAIN) -> list[Spans]:
    """Spans of a paragraph, one tuple for each line as written."""
    return _Inline(ink).lines(tokens)


class _Inline:
    def __init__(self, ink: Ink) -> None:
        self._inks = [ink]
        self._links: list[tuple[str, int]] = []
        self._lines: list[list[Span]] = [[]]

    def lines(self, tokens: Iterable[Token]) -> list[Spans]:
        for token in tokens:
            self._add(token)
        return [tuple(line) for line in self._lines]

    def _add(self, token: Token) -> None:
        if token.type in _BREAKS:
            self._lines.append([])
        elif token.nesting > 0:
            self._open(token)
        elif token.nesting < 0:
            self._close(token)
        elif token.type == "code_inline":
            self._write(token.content, (*self._inks[-1], "code"))
        elif token.type == "image":
            self._write_image(token)
        else:
            self._write(token.content, self._inks[-1])

    def _open(self, token: Token) -> None:
        name = _INKS.get(token.type, "em")
        self._inks.append((*self._inks[-1], name))
        if name == "link":
            self._links.append((str(token.attrs.get("href", "")), len(self._lines[-1])))

    def _close(self, token: Token) -> None:
        self._inks.pop()
        if token.type == "link_close":
            self._write_address(*self._links.pop())

    def _write_address(self, href: str, start: int) -> None:
        """Say where a link leads, unless its text already does."""
        shown = "".join([span.text for span in self._lines[-1][start:]])
        if href and shown not in {href, href.removeprefix("mailto:")}:
            self._write(f" ({href})", (*self._inks[-1], "address"))

    def _write_image(self, token: Token) -> None:
        self._write(f"[image: {token.content}]", (*self._inks[-1], "link"))
        self._write(f" ({token.attrs.get('src', '')})", (*self._inks[-1], "address"))

    def _write(self, text: str, ink: Ink) -> None:
        # An entity such as &#x202e; becomes a character only here.
        cleaned = safe(text).replace("\n", " ").replace("\t", "    ")
        if cleaned:
            self._lines[-1].append(Span(cleaned, ink))
