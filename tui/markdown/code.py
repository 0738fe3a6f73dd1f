"""Code with its colours: Pygments for the languages people ask about, plain text for all others."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from tui.markdown.rows import Ink, Line, Span, Spans

if TYPE_CHECKING:
    from pygments.lexer import Lexer

# A fixed list: some of Pygments' five hundred lexers take exponential time on hostile text.
_NAMES = (
    "bash c c++ cpp csharp css cuda diff docker dockerfile go haskell html ini java javascript js json "
    "julia kotlin lua make makefile nix perl php powershell py python python3 r ruby rust scala sh shell "
    "sql swift toml ts tsx typescript xml yaml yml zsh"
)
_LANGUAGES = frozenset(_NAMES.split())
_INKS: dict[str, str] = {
    "Comment": "comment",
    "Keyword": "keyword",
    "Literal.String": "string",
    "Literal.Number": "number",
    "Name.Function": "function",
    "Name.Class": "function",
    "Name.Decorator": "function",
    "Name.Tag": "keyword",
    "Name.Attribute": "function",
    "Name.Builtin": "builtin",
    "Operator.Word": "keyword",
    "Generic.Deleted": "deleted",
    "Generic.Inserted": "string",
    "Generic.Heading": "function",
}
_LONGEST_LINE = 1000
BLOCK: Ink = ("block",)


def code_lines(source: str, language: str, first: Spans = (), rest: Spans = ()) -> list[Line]:
    """Lines of a piece of code, decorated as asked; the newline at its end makes no line of its own."""
    text = source.expandtabs(4).removesuffix("\n")
    rows = _highlighted(text, language.lower())
    return [
        Line(spans, first if index == 0 else rest, rest, fill=BLOCK, verbatim=True)
        for index, spans in enumerate(rows)
    ]


def _highlighted(text: str, language: str) -> list[Spans]:
    lexer = _lexer(language) if language in _LANGUAGES else None
    lines = text.split("\n")
    if lexer is None or max(map(len, lines)) > _LONGEST_LINE:
        return [(Span(line, BLOCK),) if line else () for line in lines]
    return _spans_of(lexer, text)


def _spans_of(lexer: Lexer, text: str) -> list[Spans]:
    lines: list[list[Span]] = [[]]
    for kind, value in lexer.get_tokens(text):
        ink = _ink(str(kind))
        for index, part in enumerate(value.split("\n")):
            if index:
                lines.append([])
            _append(lines[-1], part, ink)
    return [tuple(line) for line in lines[: text.count("\n") + 1]]


def _append(line: list[Span], text: str, ink: Ink) -> None:
    if line and line[-1].ink == ink:
        line[-1] = Span(line[-1].text + text, ink)
    elif text:
        line.append(Span(text, ink))


@cache
def _ink(kind: str) -> Ink:
    name = kind.removeprefix("Token.")
    for known, ink in _INKS.items():
        if name == known or name.startswith(f"{known}."):
            return (*BLOCK, ink)
    return BLOCK


@cache
def _lexer(language: str) -> Lexer | None:
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        return get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return None
