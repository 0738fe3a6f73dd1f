"""The model picker: what is on this disk, searched as one types; Enter loads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain
from time import monotonic, time
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

from textual.binding import Binding, BindingType
from textual.widgets import Input

from engine import parse_repository
from engine.errors import EngineError, InvalidValue
from engine.values import ModelRef
from tui.downloading import Downloading
from tui.format import format_age, format_size, format_speed, format_window
from tui.model_entries import ModelEntry
from tui.outlooks import Outlook, fit_word
from tui.safe_text import safe_line
from tui.screens.dialog import Dialog, Line, SearchLine
from tui.widgets.choice_list import ChoiceList
from tui.widgets.columns import Column, ColumnHead, column_row, matches
from tui.widgets.download_line import DownloadLine
from tui.widgets.row_view import RowView
from tui.widgets.rows import Row, Span, padded, wrapped

if TYPE_CHECKING:
    from pathlib import Path

    from textual.app import ComposeResult

FindModels = Callable[[], Sequence[ModelEntry]]
"""Lists the models on this disk; slow, called beside the screen. May raise EngineError."""


class Judge(Protocol):
    """Says how models would fit and how fast they would be."""

    def refresh(self) -> None:
        """Take this machine as it is now; slow."""

    def known(self, entry: ModelEntry) -> Outlook | None:
        """What is remembered of a model."""

    def look(self, entry: ModelEntry) -> Outlook:
        """Plan a model; slow, called beside the screen."""


_COLUMNS = (
    Column("size", 9, is_right=True),
    Column("fits", 7),
    Column("tok/s", 8, is_right=True),
    Column("context", 7, is_right=True),
    Column("format", 8),
    Column("used", 6, is_right=True),
)
_KEYS = "Enter load · F2 plan · F4 get · Esc close"
_KEYS_RUNNING = "Enter load · F2 plan · F4 pause · F6 cancel · Esc close"
_KEYS_PAUSED = "Enter load · F2 plan · F4 go on · F6 give up · Esc close"
_HUBS = ("hf:", "ms:")
_TYPING_SECONDS = 0.15
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
        Binding("f4", "get", show=False, priority=True),
        Binding("f6", "cancel", show=False, priority=True),
    ]

    def __init__(
        self,
        find: FindModels,
        judge: Judge,
        downloading: Downloading | None = None,
        *,
        loaded: str = "",
        clock: Callable[[], float] = time,
    ) -> None:
        """Prepare an empty list.

        Args:
            find: lists the models.
            judge: says how they would fit.
            downloading: what is got from a hub; None makes one of this list's own.
            loaded: the name of the loaded model; marked.
            clock: seconds since the epoch.
        """
        super().__init__()
        self._find = find
        self._judge = judge
        self._downloading = downloading or Downloading()
        self._wanted = ""
        self._loaded = loaded
        self._outlooks: dict[Path, Outlook] = {}
        self._typed_at = 0.0
        self._clock = clock
        self._entries: list[ModelEntry] | None = None
        self._shown: list[ModelEntry] = []

    def compose(self) -> ComposeResult:
        """Search line, titles, list, details."""
        with self.frame("models", _KEYS):
            yield SearchLine("type to search, or hf:owner/name or ms:owner/name to get one")
            yield ColumnHead("name", _COLUMNS, id="head")
            yield ChoiceList(id="list")
            yield Line(id="say")
            yield DownloadLine(self._downloading)
            yield RowView(id="details")

    def on_mount(self) -> None:
        """Look for models beside the screen."""
        self._say("Looking for models on this disk …")
        self._show_keys()
        self.run_worker(self._look(), exit_on_error=False)

    def _say(self, text: str, *, is_warning: bool = False) -> None:
        self.query_one("#say", Line).say(text, is_warning=is_warning)

    async def _look(self) -> None:
        try:
            entries = await asyncio.to_thread(self._find)
            await asyncio.to_thread(self._judge.refresh)
        except (EngineError, OSError) as error:
            self._say_problem(str(error))
            return
        self._take(entries)
        await self._drawn()
        while (entry := self._next_unjudged()) is not None:
            if monotonic() - self._typed_at < _TYPING_SECONDS:
                await asyncio.sleep(_TYPING_SECONDS)
            else:
                self._learn(entry, await asyncio.to_thread(self._judge.look, entry))

    async def _drawn(self) -> None:
        """Wait until it is known which rows are in view."""
        drawn = asyncio.Event()
        self.call_after_refresh(drawn.set)
        await drawn.wait()

    def _next_unjudged(self) -> ModelEntry | None:
        """The chosen one first, then those in view, then those that the search fits, then the others."""
        if not self.is_attached or self._entries is None:
            return None
        view = self.query_one(ChoiceList)
        seen = self._shown[view.scroll_offset.y :][: view.size.height]
        chosen = self._shown[view.chosen :][:1]
        wanted: Iterable[ModelEntry] = chain(chosen, seen, self._shown, self._entries)
        return next((e for e in wanted if not e.problem and e.model.place not in self._outlooks), None)

    def _say_problem(self, problem: str) -> None:
        if self.is_attached:
            self._say(problem, is_warning=True)

    def _take(self, entries: Sequence[ModelEntry]) -> None:
        if self.is_attached:
            self._entries = list(entries)
            known = ((entry.model.place, self._judge.known(entry)) for entry in entries if not entry.problem)
            self._outlooks = {folder: outlook for folder, outlook in known if outlook is not None}
            self._filter(self.query_one(Input).value)

    def _learn(self, entry: ModelEntry, outlook: Outlook) -> None:
        self._outlooks[entry.model.place] = outlook
        if self.is_attached and entry in self._shown:
            view, row = self.query_one(ChoiceList), self._shown.index(entry)
            view.refresh_line(row)
            if row == view.chosen:
                self._tell(row)

    def on_input_changed(self, changed: Input.Changed) -> None:
        """Keep what the search fits; no row is judged between two letters."""
        self._typed_at = monotonic()
        self._filter(changed.value)

    def _filter(self, search: str) -> None:
        if self._entries is None:
            return
        self._shown = [e for e in self._entries if matches(search, e.model.name, e.format)]
        names = {self._wanted or self._loaded}
        loaded = [number for number, entry in enumerate(self._shown) if entry.model.name in names]
        self.query_one(ChoiceList).show(
            [partial(self._row, row) for row in range(len(self._shown))], *loaded[:1]
        )
        self._say("" if self._shown else self._nothing(search))

    def _nothing(self, search: str) -> str:
        if _is_repository(search):
            return f"No model here is called {search}: F4 gets it."
        if self._entries:
            return f"No model here is called {search}."
        return "No models on this disk yet: type hf:owner/name or ms:owner/name, and F4 gets it."

    def _row(self, row: int, width: int) -> Row:
        entry = self._shown[row]
        outlook = self._outlooks.get(entry.model.place)
        ink = "muted" if self._problem(entry) else "text"
        word, colour = fit_word(outlook, entry.problem)
        mark = (Span(" ● loaded", "success"),) if entry.model.name == self._loaded else ()
        cells = (
            Span(format_size(entry.weight_bytes) if entry.weight_bytes else "", ink),
            Span(word, colour),
            Span(_speed(outlook), ink),
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
        outlook = self._outlooks.get(entry.model.place) if entry else None
        details.show_rows(detail_rows(entry, width, outlook) if entry else [])

    def on_choice_list_chosen(self, chosen: ChoiceList.Chosen) -> None:
        """Load the chosen model, or say why it cannot be."""
        self._choose(self._shown[chosen.index])

    def _choose(self, entry: ModelEntry, *, wants_plan: bool = False) -> None:
        problem = self._problem(entry)
        if problem:
            self._say(problem, is_warning=True)
        else:
            self.dismiss(ModelChoice(entry.model, wants_plan))

    def _problem(self, entry: ModelEntry) -> str:
        outlook = self._outlooks.get(entry.model.place)
        return entry.problem or (outlook.problem if outlook else "")

    def action_plan(self) -> None:
        """See the plan of the chosen model before it is loaded."""
        chosen = self.query_one(ChoiceList).chosen
        if self._shown:
            self._choose(self._shown[chosen], wants_plan=True)

    def action_get(self) -> None:
        """Get the model whose name is typed; pause the one that is under way, or go on with it."""
        typed = self.query_one(Input).value.strip()
        paused = self._downloading.repository if self._downloading.is_paused else None
        if self._downloading.is_running:
            self._downloading.pause()
        elif not typed and paused is not None:
            self._downloading.start(paused)
        else:
            self._get(typed)

    def _get(self, typed: str) -> None:
        if not typed:
            self._say("Type hf:owner/name or ms:owner/name, and F4 gets it.", is_warning=True)
            return
        try:
            self._downloading.start(parse_repository(typed))
        except InvalidValue as error:
            self._say(str(error), is_warning=True)

    async def action_cancel(self) -> None:
        """Give up the download that is under way or paused; removing what came of it may take a moment."""
        await asyncio.to_thread(self._downloading.cancel)

    def on_download_line_changed(self, changed: DownloadLine.Changed) -> None:
        """Name the keys that count now; what is installed is listed, chosen and judged."""
        self._show_keys()
        if changed.installed:
            self._wanted = changed.installed
            self.query_one(Input).value = ""
            self.run_worker(self._look(), exit_on_error=False)

    def _show_keys(self) -> None:
        running, paused = self._downloading.is_running, self._downloading.is_paused
        self.show_keys(_KEYS_RUNNING if running else _KEYS_PAUSED if paused else _KEYS)

    async def action_list(self, action: str, amount: int | None = None) -> None:
        """Move in the list while the search line has the focus."""
        argument = "" if amount is None else amount
        await self.query_one(ChoiceList).run_action(f"{action}({argument})")


def _is_repository(typed: str) -> bool:
    """It names a model on a hub, and not only one that may be here."""
    try:
        return typed.startswith(_HUBS) and bool(parse_repository(typed))
    except InvalidValue:
        return False


def _speed(outlook: Outlook | None) -> str:
    told = format_speed(outlook.decode_tps) if outlook and outlook.decode_tps else ""
    return told.removesuffix(" tok/s")


def detail_rows(entry: ModelEntry, width: int, outlook: Outlook | None = None) -> list[Row]:
    """Name and value pairs, a problem first, then the plan."""
    problem = entry.problem or (outlook.problem if outlook else "")
    told = outlook.told if outlook else ""
    pairs = {"problem": problem, "plan": told, **dict(entry.details), "folder": str(entry.model.place)}
    rows: list[Row] = []
    for label, value in pairs.items():
        ink = "warning" if label == "problem" else "muted"
        for number, row in enumerate(wrapped(safe_line(value), ink, width - _DETAIL_LABEL)):
            head = Span((label if number == 0 else "").ljust(_DETAIL_LABEL), "line" if number else "muted")
            rows.append(padded((head, *row), width))
    return rows[:_DETAIL_ROWS]
