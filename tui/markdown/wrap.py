"""Lines broken into rows: between words, between CJK characters, and within a word only if it must be."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rich.cells import cell_len, split_graphemes

from tui.markdown.rows import Line, Row, Span, Spans, text_length

_NARROW = re.compile(
    "[ -~\xa0-\xac\xae-\u02ff\u0370-\u0482\u2010-\u2027\u2030-\u203b\u203d-\u2048\u2500-\u25fc]*"
)
_WIDE = (
    "\u1100-\u115f\u2e80-\u3000\u3003-\u3007\u3012\u3013\u301c-\ua4cf\uac00-\ud7a3"
    "\uf900-\ufaff\ufe30-\ufe4f\uff10-\uff60\uffe0-\uffe6\U00020000-\U0003fffd"
)
_OPENERS = "\u201c\u2018\uff08\u300a\u300c\u300e\u3010\u3014\u3008"
_CLOSERS = (
    "\u201d\u2019\u2026\uff09\u300b\u300d\u300f\u3011\u3015\u3009\u3001\u3002"
    "\uff0c\uff0e\uff01\uff1f\uff1b\uff1a,.;:!?)\\]}"
)
_MARKS = "\u0300-\u036f\u3099\u309a\ufe00-\ufe0f"
_CHUNK = re.compile(
    f"[{_OPENERS}]*[{_WIDE}][{_MARKS}]*[{_CLOSERS}]*\\s*|[^\\s{_WIDE}]+?(?=[{_OPENERS}]*[{_WIDE}])|[^\\s{_WIDE}]+\\s*|\\s+"
)


def wrap(line: Line, width: int) -> list[Row]:
    """Break a line into rows of at most `width` cells; blanks at a break stay at the row's end, unseen.

    The first row holds at least one character, however narrow the width is.
    """
    if line.rule:
        return [_rule(line, width)]
    if not line.spans:
        return [Row(line.first, text_length(line.first), fill=line.fill)]
    text = "".join([span.text for span in line.spans])
    room = max(1, width - sum(cell_len(span.text) for span in line.first))
    ends = _breaks(text, room, verbatim=line.verbatim)
    return list(_cut(line, ends))


def _rule(line: Line, width: int) -> Row:
    room = max(1, width - sum(cell_len(span.text) for span in line.first))
    drawn = (*line.first, Span("─" * room, ("rule",)))
    return Row(drawn, text_length(drawn), fill=line.fill)


def _breaks(text: str, room: int, *, verbatim: bool) -> list[int]:
    if len(text) * 2 <= room:
        return [len(text)]
    if _NARROW.fullmatch(text):
        return _narrow_breaks(text, room, verbatim=verbatim)
    if cell_len(text) <= room:
        return [len(text)]
    if verbatim:
        return [*_hard_breaks(text, 0, room)[0], len(text)]
    return _wide_breaks(text, room)


def _narrow_breaks(text: str, room: int, *, verbatim: bool) -> list[int]:
    """Ends of rows where every character takes one cell."""
    ends: list[int] = []
    start = 0
    while len(text) - start > room:
        blank = -1 if verbatim else text.rfind(" ", start, start + room + 1)
        start = start + room if blank <= start else _after_blanks(text, blank)
        ends.append(start)
    if not ends or ends[-1] < len(text):
        ends.append(len(text))
    return ends


def _after_blanks(text: str, start: int) -> int:
    while start < len(text) and text[start] == " ":
        start += 1
    return start


def _wide_breaks(text: str, room: int) -> list[int]:
    """Ends of rows where characters take none, one or two cells."""
    ends: list[int] = []
    column = 0
    for chunk in _CHUNK.finditer(text):
        word = chunk.group().rstrip()
        seen = cell_len(word)
        if column and column + seen > room:
            ends.append(chunk.start())
            column = 0
        if seen > room:
            cuts, column = _hard_breaks(word, chunk.start(), room)
            ends.extend(cuts)
            seen = 0
        column += seen + len(chunk.group()) - len(word)
    return [*ends, len(text)]


def _hard_breaks(text: str, offset: int, room: int) -> tuple[list[int], int]:
    """Ends of rows within an unbroken run that begins a row, and the cells its last row takes."""
    ends: list[int] = []
    left = room
    for start, _end, cells in split_graphemes(text)[0]:
        if cells > left and start:
            ends.append(offset + start)
            left = room
        left -= cells
    return ends, room - left


def _cut(line: Line, ends: list[int]) -> Iterator[Row]:
    pieces = _pieces(line.spans, ends)
    yield Row((*line.first, *next(pieces)), text_length(line.first), fill=line.fill)
    lead = text_length(line.rest)
    for piece in pieces:
        yield Row((*line.rest, *piece), lead, wraps=True, fill=line.fill)


def _pieces(spans: Spans, ends: list[int]) -> Iterator[Spans]:
    """Cut the spans at the ends, which count characters of all of them together."""
    remaining = iter(spans)
    span = next(remaining)
    start = used = 0
    for end in ends:
        piece: list[Span] = []
        while start < end:
            taken = span.text[used : used + end - start]
            piece.append(Span(taken, span.ink))
            start += len(taken)
            used += len(taken)
            if used == len(span.text):
                span, used = next(remaining, span), 0
        yield tuple(piece)
