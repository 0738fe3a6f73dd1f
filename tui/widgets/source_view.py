"""Source code to be read before it runs: every character is seen, and no line leaves the screen."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import ClassVar, NamedTuple

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.safe_text import cap_marks
from tui.widgets.inks import Inks

_TAB = "    "
_NUMBER_CELLS = 5
_MARK = re.compile("(⟨U\\+[0-9A-F]{4,6}⟩)")
_BLANK_LETTERS = frozenset(
    map(
        chr,
        (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0, *range(0xFE00, 0xFE10)),
    )
)
"""Letters and marks by Unicode's word, and nothing to the eye."""
_INKS = {"+": "success", "-": "error", "@": "muted"}


class SourceLine(NamedTuple):
    """One line of a file.

    Attributes:
        number: from 1; None for one that is not in the file.
        text: hostile; it is revealed when it is drawn.
        sign: "+" added, "-" removed, "@" lines left out, "" otherwise.
    """

    number: int | None
    text: str
    sign: str = ""


class _Piece(NamedTuple):
    """What one row of the screen shows: a line, or a part of one that is too wide."""

    line: int
    text: str
    is_first: bool


def revealed(text: str) -> str:
    """One line in which every character is seen: what has no shape of its own is named by its number.

    Controls, marks of direction, spaces of no or another width and characters that no font shows would
    let code read otherwise than it runs.
    """
    text = text.replace("\t", _TAB)
    if text.isascii() and text.isprintable():
        return text
    return cap_marks("".join(f"⟨U+{ord(each):04X}⟩" if _is_hidden(each) else each for each in text))


def hidden_characters(text: str) -> int:
    """How many characters of a file have no shape of their own; tabs and the ends of lines are usual."""
    plain = text.replace("\n", "").replace("\t", "")
    return 0 if plain.isascii() and plain.isprintable() else sum(map(_is_hidden, plain))


def _is_hidden(character: str) -> bool:
    return not character.isprintable() or character in _BLANK_LETTERS


class SourceView(ScrollView, can_focus=True):
    """Lines with their numbers; those too wide go on in the next row, so that nothing is out of sight."""

    DEFAULT_CSS = """
    SourceView { height: 1fr; background: $background; color: $foreground; scrollbar-size-vertical: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "scroll_down", show=False),
        Binding("k", "scroll_up", show=False),
        Binding("g", "scroll_home", show=False),
        Binding("G", "scroll_end", show=False),
    ]

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002  # Textual's name
        """Begin with nothing to read."""
        super().__init__(id=id)
        self._lines: Sequence[SourceLine] = ()
        self._pieces: list[_Piece] = []
        self._inks = Inks(self)

    def show(self, lines: Sequence[SourceLine]) -> None:
        """Take these lines, from their beginning."""
        self._lines = lines
        self._lay_out()
        self.scroll_to(0, 0, animate=False)

    def on_resize(self) -> None:
        """Break the lines for the new width."""
        self._lay_out()

    def _lay_out(self) -> None:
        width = max(8, self.scrollable_content_region.width - _NUMBER_CELLS - 3)
        self._pieces = [
            _Piece(index, part, number == 0)
            for index, line in enumerate(self._lines)
            for number, part in enumerate(_parts(revealed(line.text), width))
        ]
        self.virtual_size = Size(0, len(self._pieces))
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One row."""
        index = y + self.scroll_offset.y
        width = self.scrollable_content_region.width
        if index >= len(self._pieces):
            return Strip.blank(width, self._inks.style("text"))
        piece = self._pieces[index]
        line = self._lines[piece.line]
        ink = _INKS.get(line.sign, "text")
        number = str(line.number or "") if piece.is_first else "↳"
        head = Segment(f"{number:>{_NUMBER_CELLS}} ", self._inks.style("muted"))
        sign = Segment(f"{line.sign if line.sign in '+-' else '':1} ", self._inks.style(ink))
        parts = (part for part in _MARK.split(piece.text) if part)
        text = (Segment(part, self._style(part, ink)) for part in parts)
        return Strip([head, sign, *text]).adjust_cell_length(width, self._inks.style("text"))

    def _style(self, part: str, ink: str) -> Style:
        return self._inks.style("warning" if _MARK.fullmatch(part) else ink)

    def notify_style_update(self) -> None:
        """Make the styles anew."""
        self._inks.forget()
        super().notify_style_update()


def _parts(text: str, width: int) -> Iterator[str]:
    """A line in parts of at most `width` cells."""
    if text.isascii():
        yield from (text[at : at + width] for at in range(0, max(1, len(text)), width))
        return
    part, taken = "", 0
    for character in text:
        cells = cell_len(character)
        if taken + cells > width:
            yield part
            part, taken = "", 0
        part += character
        taken += cells
    yield part
