"""The frame of every dialog: a title, what it shows, and a line of keys; Esc closes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from tui.safe_text import safe_line

if TYPE_CHECKING:
    from pathlib import PurePath

Result = TypeVar("Result")


class Dialog(ModalScreen[Result | None], Generic[Result]):
    """A frame over the chat; `None` is the result of Esc."""

    CSS_PATH: ClassVar[list[str | PurePath]] = ["dialog.tcss"]
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "close", "Close", show=False, priority=True)]

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012  # Textual declares it so
    VERTICAL_BREAKPOINTS = [(0, "-low"), (18, "-high")]  # noqa: RUF012  # Textual declares it so

    _keys = ""

    def frame(self, title: str, keys: str) -> Vertical:
        """The framed box that the dialog's widgets are mounted in.

        Args:
            title: on its upper edge.
            keys: on its lower edge, in pairs of key and word ("Enter load · Esc close").
        """
        box = Vertical(id="frame")
        box.border_title = Content(safe_line(title))
        box.border_subtitle = Content(keys)
        self._keys = keys
        return box

    def show_keys(self, keys: str) -> None:
        """Say other keys on the lower edge; the same ones cost nothing."""
        for box in self.query("#frame"):
            # Setting it paints the whole frame and all that is in it.
            if self._keys != keys:
                self._keys = keys
                box.border_subtitle = Content(keys)

    def action_close(self) -> None:
        """Close without a result."""
        self.dismiss(None)


class SearchLine(Input):
    """One line to type in, without a frame and without a blinking cursor, which would cost bytes."""

    def __init__(self, placeholder: str, *, id: str = "search") -> None:  # noqa: A002  # Textual's name
        """Prepare an empty line.

        Args:
            placeholder: shown while it is empty.
            id: Textual's.
        """
        super().__init__(placeholder=placeholder, id=id, compact=True, select_on_focus=False)
        self.cursor_blink = False


class Line(Static):
    """One paragraph of harmless text in one colour of the palette; empty ones take no room."""

    DEFAULT_CSS = """
    Line { display: none; height: auto; color: $muted; }
    Line.-warning { color: $warning; }
    """

    def say(self, text: str, *, is_warning: bool = False) -> None:
        """Show a sentence; an empty one takes no room."""
        self.display = bool(text)
        self.set_class(is_warning, "-warning")
        self.update(Content(safe_line(text)))
