"""The saved sessions: searched, resumed, renamed, and deleted after a question."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from time import time
from typing import TYPE_CHECKING, ClassVar, TypeVar

from textual.binding import Binding, BindingType
from textual.widgets import Input

from sessions import Session, SessionError
from tui.format import format_age
from tui.safe_text import safe_line
from tui.screens.dialog import Dialog, Line, SearchLine
from tui.widgets.choice_list import ChoiceList
from tui.widgets.columns import Column, ColumnHead, column_row
from tui.widgets.rows import Row, Span

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from sessions import SessionStore

T = TypeVar("T")

_COLUMNS = (Column("used", 6, is_right=True), Column("turns", 5, is_right=True), Column("model", 24))
_KEYS = "Enter resume · / search · r rename · d delete · Esc close"
_KEYS_SEARCHING = "Enter to the list · Esc back"
_KEYS_RENAMING = "Enter save the title · Esc back"
_KEYS_DELETING = "y delete · n keep"
_MOST = 500


class SessionsScreen(Dialog[int]):
    """A list of sessions; the result is the number of the one to resume."""

    AUTO_FOCUS = "#list"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "search", show=False),
        Binding("r", "rename", show=False),
        Binding("d,delete", "delete", show=False),
        Binding("y", "confirm", show=False),
        Binding("n", "keep", show=False),
        Binding("escape", "back", show=False, priority=True),
    ]

    def __init__(self, store: SessionStore, *, current: int = 0, clock: Callable[[], float] = time) -> None:
        """Prepare an empty list.

        Args:
            store: the saved talk.
            current: the number of the open session; marked.
            clock: seconds since the epoch.
        """
        super().__init__()
        self._store = store
        self._current = current
        self._clock = clock
        self._sessions: tuple[Session, ...] = ()
        self._doomed: Session | None = None

    def compose(self) -> ComposeResult:
        """Search line, titles, list, and a line for questions."""
        with self.frame("sessions", _KEYS):
            yield SearchLine("/ to search in titles and talk")
            yield SearchLine("title", id="rename")
            yield ColumnHead("title", _COLUMNS, id="head")
            yield ChoiceList(id="list")
            yield Line(id="say")

    def on_mount(self) -> None:
        """List all sessions."""
        self.query_one("#rename").display = False
        self._list_soon()

    def _list_soon(self, chosen: int = 0) -> None:
        self.run_worker(self._list(chosen), exclusive=True, group="list")

    async def _list(self, chosen: int) -> None:
        search = self.query_one("#search", Input).value.strip()
        found = await self._ask(self._store.sessions(_MOST, search))
        if found is None:
            return
        self._sessions = found
        self.query_one(ChoiceList).show([partial(self._row, session) for session in found], chosen)
        if not found:
            self._say("Nobody said that." if search else "Nothing is saved yet.")

    async def _ask(self, future: Future[T]) -> T | None:
        """What the store answers; None, and its sentence on the screen, when it refuses."""
        try:
            return await asyncio.wrap_future(future)
        except SessionError as error:
            self._say(str(error), is_warning=True)
            return None

    def _say(self, text: str = "", *, is_warning: bool = False) -> None:
        self.query_one(Line).say(text, is_warning=is_warning)

    def _row(self, session: Session, width: int) -> Row:
        ink = "error" if session is self._doomed else "text"
        mark = (Span(" ● open", "success"),) if session.id == self._current else ()
        title = Span(safe_line(session.title) or "untitled", ink if session.title else "muted")
        cells = (
            Span(format_age(self._clock() - session.updated_at), "muted"),
            Span(str(session.turn_count), ink),
            Span(safe_line(session.model), "muted"),
        )
        return column_row((title, *mark), cells, _COLUMNS, width)

    def _chosen(self) -> Session | None:
        chosen = self.query_one(ChoiceList).chosen
        return self._sessions[chosen] if chosen < len(self._sessions) else None

    def on_choice_list_chosen(self, chosen: ChoiceList.Chosen) -> None:
        """Resume a session."""
        self.dismiss(self._sessions[chosen.index].id)

    def on_choice_list_moved(self) -> None:
        """Forget a question that was not answered."""
        if self._doomed is not None:
            self.action_keep()

    def action_search(self) -> None:
        """Type in the search line."""
        self.show_keys(_KEYS_SEARCHING)
        self.query_one("#search").focus()

    def on_input_changed(self, changed: Input.Changed) -> None:
        """Search while the person types."""
        if changed.input.id == "search":
            self._say()
            self._list_soon()

    def on_input_submitted(self, submitted: Input.Submitted) -> None:
        """Keep a new title, or go on to the list."""
        session = self._chosen()
        if submitted.input.id == "rename" and session is not None and submitted.value.strip():
            self.run_worker(self._rename(session, submitted.value.strip()), group="edit")
        self._to_list()

    async def _rename(self, session: Session, title: str) -> None:
        if await self._ask(self._store.rename(session.id, title)) is not None:
            self._list_soon(self.query_one(ChoiceList).chosen)

    def action_rename(self) -> None:
        """Write another title."""
        session = self._chosen()
        if session is None:
            return
        line = self.query_one("#rename", Input)
        self.query_one("#search").display = False
        line.display = True
        line.value = safe_line(session.title)
        line.action_end()
        line.focus()
        self.show_keys(_KEYS_RENAMING)

    def action_delete(self) -> None:
        """Ask whether the session is to be deleted."""
        self._doomed = session = self._chosen()
        if session is None:
            return
        turns = f"{session.turn_count} turn{'s' if session.turn_count != 1 else ''}"
        self._say(f"Delete “{session.title or 'untitled'}” with {turns} for ever?", is_warning=True)
        self.show_keys(_KEYS_DELETING)
        self.query_one(ChoiceList).refresh()

    def action_confirm(self) -> None:
        """Delete the session that was asked about."""
        if self._doomed is not None:
            self.run_worker(self._delete(self._doomed), group="edit")
            self.action_keep()

    async def _delete(self, session: Session) -> None:
        chosen = self.query_one(ChoiceList).chosen
        try:
            await asyncio.wrap_future(self._store.delete(session.id))
        except SessionError as error:
            self._say(str(error), is_warning=True)
        else:
            self._list_soon(chosen)

    def action_keep(self) -> None:
        """Delete nothing."""
        self._doomed = None
        self._say()
        self.show_keys(_KEYS)
        self.query_one(ChoiceList).refresh()

    def action_back(self) -> None:
        """Out of a question, a line of text, or the dialog."""
        if self._doomed is not None:
            self.action_keep()
        elif isinstance(self.focused, Input):
            self._to_list()
        else:
            self.action_close()

    def _to_list(self) -> None:
        self.query_one("#search").display = True
        self.query_one("#rename").display = False
        self.show_keys(_KEYS)
        self.query_one(ChoiceList).focus()
