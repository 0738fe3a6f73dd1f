"""Help: keys and slash commands, drawn from their one declaration."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll

from tui.commands import COMMANDS, Scope, UserCommand
from tui.screens.dialog import Dialog
from tui.widgets.row_view import RowView
from tui.widgets.rows import Row, Span, padded, wrapped

if TYPE_CHECKING:
    from textual.app import ComposeResult

_KEYS = "Up/Down scroll · Esc close"
_NAME_CELLS = 24
_TITLES = {
    Scope.EVERYWHERE: "Keys",
    Scope.PROMPT: "In the prompt",
    Scope.MESSAGE: "On a message (Tab from the prompt)",
    Scope.PLAN: "In the plan (F2)",
    Scope.MODELS: "In the list of models (Ctrl+O)",
    Scope.CODE: "On the code that a model brings",
}


class HelpScreen(Dialog[None]):
    """Every key and every slash command on one page."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("f1,q", "close", show=False)]

    def compose(self) -> ComposeResult:
        """One page that scrolls."""
        with self.frame("help", _KEYS), VerticalScroll(id="page"):
            yield HelpPage()


class HelpPage(RowView):
    """The page, laid out for its width."""

    def rows_at(self, width: int) -> list[Row]:
        """All of it."""
        return help_rows(COMMANDS, width)


def help_rows(commands: Iterable[UserCommand], width: int) -> list[Row]:
    """The page: keys by where they count, then slash commands."""
    commands = tuple(commands)
    rows: list[Row] = []
    for scope, title in _TITLES.items():
        keys = [
            (each.key_label, each.help.replace("`", ""))
            for each in commands
            if each.key and each.scope is scope
        ]
        rows += _section(title, keys, width)
    slashes = [(each.usage, each.help.replace("`", "")) for each in commands if each.slash]
    return [*rows, *_section("Slash commands (Tab completes)", slashes, width)][:-1]


def _section(title: str, pairs: list[tuple[str, str]], width: int) -> list[Row]:
    rows: list[Row] = [padded((Span(title, "strong"),), width)]
    for name, text in pairs:
        rows += _entry(name, text, width)
    return [*rows, padded((), width)]


def _entry(name: str, text: str, width: int) -> list[Row]:
    room = width - _NAME_CELLS - 2
    if room < _NAME_CELLS:
        return [padded((Span(f"  {name}  ", "accent"), Span(text, "muted")), width)]
    texts = wrapped(text, "text", room)
    if len(name) > _NAME_CELLS - 2:
        return [padded((Span(f"  {name}", "accent"),), width), *(_indented("", row) for row in texts)]
    return [_indented(name if number == 0 else "", row) for number, row in enumerate(texts)]


def _indented(name: str, row: Row) -> Row:
    return (Span(f"  {name.ljust(_NAME_CELLS)}", "accent"), *row)
