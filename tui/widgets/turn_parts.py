"""The small parts of a turn: its heads, how it ended, and the line of the context window."""

from __future__ import annotations

import enum

from rich.cells import cell_len, set_cell_size

from tui.markdown.piece import Block
from tui.markdown.rows import BLANK, Ink, Line, Row, Span
from tui.markdown.wrap import wrap
from tui.safe_text import SafeText

HEAD_INDENT = 2
BODY_INDENT = 4
MARGIN = 2
"""Cells that stay blank at the right."""


class TurnMark(enum.StrEnum):
    """How a turn ended, where that is worth a row."""

    NONE = "none"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    LENGTH = "length"


_SENTENCES = {
    TurnMark.STOPPED: "stopped",
    TurnMark.INTERRUPTED: "interrupted",
    TurnMark.FAILED: "failed",
    TurnMark.LENGTH: "reached the limit of new tokens",
}


class Head(Block):
    """Who speaks, and at the right what it cost.

    Attributes:
        note: the text at the right.
    """

    def __init__(self, speaker: SafeText, ink: Ink, *, gap: bool) -> None:
        """Name the speaker.

        Args:
            speaker: one line.
            ink: of the name.
            gap: leave a blank row above.
        """
        super().__init__(1 + gap)
        self._speaker = speaker
        self._ink = ink
        self._gap = gap
        self._note = ""

    @property
    def note(self) -> str:
        """The text at the right."""
        return self._note

    @note.setter
    def note(self, note: SafeText) -> None:
        self._note = note
        self._width = 0

    def lay_out(self, width: int) -> list[Row]:
        """The name, and the note where there is room for it."""
        room = width + BODY_INDENT - HEAD_INDENT
        spans = [Span(self._speaker, self._ink)]
        left = room - cell_len(self._speaker) - cell_len(self._note)
        if left < 0:
            spans = [Span(set_cell_size(self._speaker, room), self._ink)]
        if self._note and left > 1:
            spans += [Span(" " * left), Span(self._note, ("note",))]
        return [BLANK] * self._gap + [Row(tuple(spans))]


class ContextLine(Block):
    """The line behind which the model no longer sees."""

    text = " the model no longer sees what is above "

    def __init__(self) -> None:
        """Take two rows."""
        super().__init__(2)

    def lay_out(self, width: int) -> list[Row]:
        """One row across the width, with a blank row above."""
        room = width + BODY_INDENT - HEAD_INDENT
        dashes = max(0, room - len(self.text))
        line = f"{'─' * (dashes // 2)}{self.text}{'─' * (dashes - dashes // 2)}"[:room]
        return [BLANK, Row((Span(line, ("context",)),))]


class Foot(Block):
    """The end of a reply: how it ended, or that it has not begun.

    Attributes:
        mark: how it ended.
        sentence: for `failed`, what happened.
        is_waiting: nothing of the reply has come yet.
    """

    def __init__(self) -> None:
        """Begin with a reply that is waited for."""
        super().__init__()
        self.mark = TurnMark.NONE
        self.sentence = ""
        self.is_waiting = True

    def say(self, *, waiting: bool, mark: TurnMark = TurnMark.NONE, sentence: str = "") -> None:
        """Say how the reply stands."""
        if (waiting, mark, sentence) != (self.is_waiting, self.mark, self.sentence):
            self.is_waiting, self.mark, self.sentence = waiting, mark, sentence
            self._width = 0

    def estimate(self, width: int) -> int:
        """Exact: its rows are few."""
        return len(self.lay_out(width))

    def lay_out(self, width: int) -> list[Row]:
        """A mark below a blank row, or three dots, or nothing."""
        if self.mark is not TurnMark.NONE:
            text = self.sentence.replace("\n", " ") or _SENTENCES[self.mark]
            ink = ("mark", self.mark.value)
            dot = (Span("■ ", ink),)
            return [BLANK, *wrap(Line((Span(text, ink),), dot, (Span("  "),)), width)]
        return [Row((Span("…", ("note",)),))] if self.is_waiting else []
