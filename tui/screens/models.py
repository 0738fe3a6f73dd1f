"""The model picker: what is on this disk, searched as one types; Enter loads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from time import time
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from textual.binding import Binding, BindingType
from textual.widgets import Input
from textual.worker import get_current_worker

from engine.errors import EngineError
from engine.values import ModelRef
from tui.format import format_age, format_size, format_window
from tui.model_entries import FreeMemory, ModelEntry, fit_word, measured
from tui.safe_text import safe_line
from tui.screens.dialog import Dialog, Line, SearchLine
from tui.widgets.choice_list import ChoiceList
from tui.widgets.columns import Column, ColumnHead, column_row, matches
from tui.widgets.row_view import RowView
from tui.widgets.rows import Row, Span, padded, wrapped

if TYPE_CHECKING:
    from textual.app import ComposeResult

FindModels = Callable[[], Sequence[ModelEntry]]
"""Lists the models on this disk; slow, called beside the screen. May raise EngineError."""

_COLUMNS = (
    Column("size", 9, is_right=True),
    Column("fits", 7),
    Column("context", 7, is_right=True),
    Column("format", 8),
    Column("used", 6, is_right=True),
)
_KEYS = "Enter load · F2 plan · Esc close"
_DETAIL_LABEL = 9
_DETAIL_ROWS = 6


class ModelChoice(NamedTuple):
    """What the person chose.

    Attributes:
        model: which model.
        wants_plan: they want to see its plan first.
    """

    model: ModelRef
    wants_plan: bool = False


class ModelsScreen(Dialog[ModelChoice]):
    """A search line, the models, and what is known of the chosen one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "list('move', -1)", show=False, priority=True),
        Binding("down", "list('move', 1)", show=False, priority=True),
        Binding("pageup", "list('page', -1)", show=False, priority=True),
        Binding("pagedown", "list('page', 1)", show=False, priority=True),
        Binding("enter", "list('choose')", show=False, priority=True),
        Binding("f2", "plan", show=False, priority=True),
    ]

    def __init__(
        self,
        find: FindModels,
        free: FreeMemory,
        *,
        loaded: str = "",
        measure: Callable[[ModelEntry], ModelEntry] = measured,
        clock: Callable[[], float] = time,
    ) -> None:
        """Prepare an empty list.

        Args:
            find: lists the models.
            free: what they may take.
            loaded: the name of the loaded model; marked.
            measure: looks closely at one model; slow, called beside the screen.
            clock: seconds since the epoch.
        """
        super().__init__()
        self._find = find
        self._free = free
        self._loaded = loaded
        self._measure = measure
        self._clock = clock
        self._entries: list[ModelEntry] | None = None
        self._shown: list[ModelEntry] = []

    def compose(self) -> ComposeResult:
        """Search line, titles, list, details."""
        with self.frame("models", _KEYS):
            yield SearchLine("type to search")
            yield ColumnHead("name", _COLUMNS, id="head")
            yield ChoiceList(id="list")
            yield Line(id="say")
            yield RowView(id="details")

    def on_mount(self) -> None:
        """Look for models beside the screen."""
        self.query_one(Line).say("Looking for models on this disk …")
        self.run_worker(self._look, thread=True, exit_on_error=False)

    def _look(self) -> None:
        try:
            entries = self._find()
        except (EngineError, OSError) as error:
            self.app.call_from_thread(self._say_problem, str(error))
            return
        self.app.call_from_thread(self._take, entries)
        self._look_closely(entries)

    def _look_closely(self, entries: Sequence[ModelEntry]) -> None:
        worker = get_current_worker()
        for entry in entries:
            if worker.is_cancelled:
                return
            if not entry.problem:
                self.app.call_from_thread(self._replace, entry, self._measure(entry))

    def _say_problem(self, problem: str) -> None:
        if self.is_attached:
            self.query_one(Line).say(problem, is_warning=True)

    def _take(self, entries: Sequence[ModelEntry]) -> None:
        if self.is_attached:
            self._entries = list(entries)
            self._filter(self.query_one(Input).value)

    def _replace(self, entry: ModelEntry, better: ModelEntry) -> None:
        if not self.is_attached or self._entries is None or better == entry:
            return
        self._entries[self._entries.index(entry)] = better
        if entry in self._shown:
            row = self._shown.index(entry)
            self._shown[row] = better
            self.query_one(ChoiceList).refresh_line(row)
            self._tell(self.query_one(ChoiceList).chosen)

    def on_input_changed(self, changed: Input.Changed) -> None:
        """Keep what the search fits."""
        self._filter(changed.value)

    def _filter(self, search: str) -> None:
        if self._entries is None:
            return
        self._shown = [e for e in self._entries if matches(search, e.model.name, e.format)]
        loaded = [number for number, entry in enumerate(self._shown) if entry.model.name == self._loaded]
        self.query_one(ChoiceList).show(
            [partial(self._row, row) for row in range(len(self._shown))], *loaded[:1]
        )
        self.query_one(Line).say("" if self._shown else self._nothing(search))

    def _nothing(self, search: str) -> str:
        if self._entries:
            return f"No model here is called {search}."
        return "No models on this disk yet: vramble pull hf:owner/name fetches one."

    def _row(self, row: int, width: int) -> Row:
        entry = self._shown[row]
        ink = "muted" if entry.problem else "text"
        word, colour = fit_word(entry, self._free)
        mark = (Span(" ● loaded", "success"),) if entry.model.name == self._loaded else ()
        cells = (
            Span(format_size(entry.weight_bytes) if entry.weight_bytes else "", ink),
            Span(word, colour),
            Span(format_window(entry.context_window) if entry.context_window else "", ink),
            Span(safe_line(entry.format), "muted"),
            Span(format_age(self._clock() - entry.last_used) if entry.last_used else "", "muted"),
        )
        return column_row((Span(safe_line(entry.model.name), ink), *mark), cells, _COLUMNS, width)

    def on_choice_list_moved(self, moved: ChoiceList.Moved) -> None:
        """Tell what is known of the chosen model."""
        self._tell(moved.index)

    def _tell(self, index: int) -> None:
        details = self.query_one("#details", RowView)
        width = max(1, details.content_size.width or self.size.width // 2)
        entry = self._shown[index] if 0 <= index < len(self._shown) else None
        details.show_rows(detail_rows(entry, width) if entry else [])

    def on_choice_list_chosen(self, chosen: ChoiceList.Chosen) -> None:
        """Load the chosen model, or say why it cannot be."""
        self._choose(self._shown[chosen.index])

    def _choose(self, entry: ModelEntry, *, wants_plan: bool = False) -> None:
        if entry.problem:
            self.query_one(Line).say(entry.problem, is_warning=True)
        else:
            self.dismiss(ModelChoice(entry.model, wants_plan))

    def action_plan(self) -> None:
        """See the plan of the chosen model before it is loaded."""
        chosen = self.query_one(ChoiceList).chosen
        if self._shown:
            self._choose(self._shown[chosen], wants_plan=True)

    async def action_list(self, action: str, amount: int | None = None) -> None:
        """Move in the list while the search line has the focus."""
        argument = "" if amount is None else amount
        await self.query_one(ChoiceList).run_action(f"{action}({argument})")


def detail_rows(entry: ModelEntry, width: int) -> list[Row]:
    """Name and value pairs, a problem first."""
    pairs = {"problem": entry.problem, **dict(entry.details), "folder": str(entry.model.folder)}
    rows: list[Row] = []
    for label, value in pairs.items():
        ink = "warning" if label == "problem" else "muted"
        for number, row in enumerate(wrapped(safe_line(value), ink, width - _DETAIL_LABEL)):
            head = Span((label if number == 0 else "").ljust(_DETAIL_LABEL), "line" if number else "muted")
            rows.append(padded((head, *row), width))
    return rows[:_DETAIL_ROWS]
