"""The palettes, each shown while it is the chosen one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from tui.safe_text import safe_line
from tui.screens.dialog import Dialog
from tui.widgets.choice_list import ChoiceList
from tui.widgets.rows import Row, Span, padded

if TYPE_CHECKING:
    from textual.app import ComposeResult

_KEYS = "Enter keep · Esc back"


class ThemesScreen(Dialog[str]):
    """A list of palettes; the result is the name of the one to keep."""

    def __init__(self, names: Sequence[str], chosen: str, show: Callable[[str], object]) -> None:
        """List palettes.

        Args:
            names: of the palettes.
            chosen: the present one.
            show: shows one of them at once.
        """
        super().__init__()
        self._names = list(names)
        self._before = chosen
        self._show = show

    def compose(self) -> ComposeResult:
        """The list alone, so that the talk behind it is seen in the new colours."""
        with self.frame("themes", _KEYS):
            yield ChoiceList(id="list")

    def on_mount(self) -> None:
        """List them, the present one chosen."""
        chosen = self._names.index(self._before) if self._before in self._names else 0
        self.query_one(ChoiceList).show([partial(_row, name) for name in self._names], chosen)

    def on_choice_list_moved(self, moved: ChoiceList.Moved) -> None:
        """Show a palette."""
        if moved.index >= 0:
            self._show(self._names[moved.index])

    def on_choice_list_chosen(self, chosen: ChoiceList.Chosen) -> None:
        """Keep a palette."""
        self.dismiss(self._names[chosen.index])

    def action_close(self) -> None:
        """Go back to the palette of before."""
        self._show(self._before)
        self.dismiss(None)


def _row(name: str, width: int) -> Row:
    return padded((Span(safe_line(name)),), width)
