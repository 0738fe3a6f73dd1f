"""Code that a model brings, shown before any of it runs; one key agrees, and it is not Enter."""

from __future__ import annotations

from functools import partial
from time import time
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Container

from tui.code_review import CodeReview, FileState, ReviewedFile
from tui.format import format_age
from tui.safe_text import safe_line
from tui.screens.dialog import Dialog, Line
from tui.widgets.choice_list import ChoiceList
from tui.widgets.row_view import RowView
from tui.widgets.rows import Row, Span, padded, spread, wrapped
from tui.widgets.source_view import SourceView

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import PurePath

    from textual.app import ComposeResult

_KEYS = "F8 agree and run · Up/Down read · Left/Right file · Esc refuse"
_KEYS_CHANGED = "F8 agree and run · Up/Down read · Left/Right file · d whole · Esc refuse"
_KEYS_WHOLE = "F8 agree and run · Up/Down read · Left/Right file · d changes · Esc refuse"
_NOT_ENTER = "Enter agrees to nothing: F8 does, and Esc refuses."
_WARNING = (
    "Its code runs with your rights: it can read and change your files and use the network. "
    "vramble does not watch it."
)
_LABEL = 9
_STATE_INKS = {FileState.CHANGED: "warning", FileState.NEW: "warning", FileState.GONE: "error"}
_SHOWN_DIGITS = 16


class ConsentScreen(Dialog[bool]):
    """The files of one repository; the result is True where the person agreed to run them."""

    AUTO_FOCUS = "#source"
    CSS_PATH: ClassVar[list[str | PurePath]] = ["dialog.tcss", "consent.tcss"]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f8", "agree", show=False, priority=True),
        Binding("enter", "not_enter", show=False, priority=True),
        Binding("left,shift+tab", "file(-1)", show=False, priority=True),
        Binding("right,tab", "file(1)", show=False, priority=True),
        Binding("d", "whole", show=False),
    ]

    def __init__(self, review: CodeReview, clock: Callable[[], float] = time) -> None:
        """Prepare.

        Args:
            review: what is shown.
            clock: seconds since the epoch.
        """
        super().__init__()
        self._review = review
        self._clock = clock
        self._is_whole = False

    def compose(self) -> ComposeResult:
        """What it is, its files, what they say."""
        with self.frame(f"code that {self._review.model} brings", _KEYS):
            yield _About(self._review, self._clock())
            with Container(id="body"):
                yield ChoiceList(id="list")
                yield SourceView(id="source")
            yield Line(id="say")

    def on_mount(self) -> None:
        """List the files; the one that matters most is shown."""
        files = self._review.files
        files_list = self.query_one(ChoiceList)
        files_list.can_focus = False
        files_list.show([partial(_row, file) for file in files])

    @property
    def _file(self) -> ReviewedFile | None:
        chosen = self.query_one(ChoiceList).chosen
        return self._review.files[chosen] if chosen < len(self._review.files) else None

    def on_choice_list_moved(self) -> None:
        """Show the file, or what changed in it."""
        self._is_whole = False
        self._show()

    def _show(self) -> None:
        file = self._file
        if file is None:
            return
        shows_changes = bool(file.changes) and not self._is_whole
        self.query_one(SourceView).show(file.changes if shows_changes else file.lines)
        self.show_keys(_KEYS_CHANGED if shows_changes else _KEYS_WHOLE if file.changes else _KEYS)
        hidden = f"{_counted(file.hidden, 'character')} of {file.name} cannot be seen: look for ⟨U+…⟩."
        self.query_one(Line).say(hidden if file.hidden else "", is_warning=True)

    def action_file(self, steps: int) -> None:
        """Go to another file."""
        self.query_one(ChoiceList).action_move(steps)

    def action_whole(self) -> None:
        """Show the whole file instead of its changes, or the changes again."""
        self._is_whole = not self._is_whole
        self._show()

    def action_not_enter(self) -> None:
        """Tell which key agrees: Enter is pressed without reading."""
        self.query_one(Line).say(_NOT_ENTER, is_warning=True)

    def action_agree(self) -> None:
        """Let these files run, now and until one of them changes."""
        self.dismiss(True)

    def action_close(self) -> None:
        """Refuse."""
        self.dismiss(False)


class _About(RowView):
    """The rows above the files, laid out for their width."""

    def __init__(self, review: CodeReview, now: float) -> None:
        super().__init__(id="about")
        self._review = review
        self._now = now

    def rows_at(self, width: int) -> list[Row]:
        """All of them."""
        return about_rows(self._review, width, self._now)


def about_rows(review: CodeReview, width: int, now: float) -> list[Row]:
    """What would run, whose it is, and what the person said of it before."""
    commit = f" · commit {review.revision}" if review.revision else ""
    present = [file for file in review.files if file.state is not FileState.GONE]
    lines = sum(len(file.lines) for file in present)
    pairs = [
        ("from", f"{review.repository}{commit}", "text"),
        ("code", f"{_counted(len(present), 'file')}, {_counted(lines, 'line')}", "text"),
    ]
    if review.is_foreign:
        pairs.append(("why", f"{review.model} has its code in this other repository.", "warning"))
    if review.agreed_at is not None:
        pairs.append(
            ("agreed", f"{format_age(now - review.agreed_at)} ago; {_changed(review)} since.", "warning")
        )
    rows = [
        padded((Span(label.ljust(_LABEL), "muted"), Span(safe_line(text), ink)), width)
        for label, text, ink in pairs
    ]
    return [*wrapped(_WARNING, "warning", width), *rows]


def _changed(review: CodeReview) -> str:
    counts = (
        (state.value, sum(file.state is state for file in review.files))
        for state in (FileState.CHANGED, FileState.NEW, FileState.GONE)
    )
    told = [f"{count} {word}" for word, count in counts if count]
    return ", ".join(told) or "nothing changed"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _row(file: ReviewedFile, width: int) -> Row:
    """A name, and what stands beside it: its state, or the beginning of its hash."""
    ink = _STATE_INKS.get(file.state, "muted")
    told = f" ⟨{file.hidden}⟩" if file.hidden else ""
    state = Span(f"{told} {file.state or file.sha256[: _SHOWN_DIGITS // 2]}", "warning" if told else ink)
    return spread((Span(file.name),), (state,), width)
