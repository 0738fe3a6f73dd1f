"""A list to choose from, drawn in columns: a row each, only as many made as are seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import var
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.widgets.inks import Inks
from tui.widgets.rows import Row, padded

RowMaker = Callable[[int], Row]
"""Draws one entry at a width in cells."""

_MARK = "▌ "
_NO_MARK = "  "


class ChoiceList(ScrollView, can_focus=True):
    """Rows, one of them chosen; works the same whether it or a search line above it has the focus."""

    DEFAULT_CSS = """
    ChoiceList { height: 1fr; background: $background; color: $foreground; scrollbar-size-vertical: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home,g", "move_to(0)", show=False),
        Binding("end,G", "move_to(-1)", show=False),
        Binding("enter", "choose", show=False),
    ]
    chosen: var[int] = var(0)

    class Moved(Message):
        """Another row is the chosen one.

        Attributes:
            index: which; -1 when there is none.
        """

        def __init__(self, index: int) -> None:
            """Say which one."""
            super().__init__()
            self.index = index

    class Chosen(Message):
        """The person wants the chosen row.

        Attributes:
            index: which.
        """

        def __init__(self, index: int) -> None:
            """Say which one."""
            super().__init__()
            self.index = index

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002  # Textual's name
        """Begin with an empty list."""
        super().__init__(id=id)
        self._makers: Sequence[RowMaker] = ()
        self._inks = Inks(self)

    def show(self, makers: Sequence[RowMaker], chosen: int = 0) -> None:
        """Take these rows, and choose one of them."""
        self._makers = makers
        self._fit()
        self.set_reactive(ChoiceList.chosen, max(0, min(chosen, len(makers) - 1)))
        self._reveal()
        self.refresh()
        self.post_message(self.Moved(self.chosen if makers else -1))

    def on_resize(self) -> None:
        """Draw the columns for the new width."""
        self._fit()
        self._reveal()

    def _fit(self) -> None:
        self.virtual_size = Size(0, len(self._makers))

    def watch_chosen(self, before: int, now: int) -> None:
        """Repaint the two rows that changed."""
        self.refresh_line(before)
        self.refresh_line(now)
        self._reveal()
        self.post_message(self.Moved(now))

    def _reveal(self) -> None:
        self.scroll_to_region(Region(0, self.chosen, 1, 1), animate=False, force=True)

    def action_move(self, steps: int) -> None:
        """Go up or down."""
        self.action_move_to(max(0, min(self.chosen + steps, len(self._makers) - 1)))

    def action_page(self, pages: int) -> None:
        """Go up or down by what is seen."""
        self.action_move(pages * max(1, self.size.height - 1))

    def action_move_to(self, index: int) -> None:
        """Go to a row; negative counts from the end."""
        if self._makers:
            self.chosen = index % len(self._makers)

    def action_choose(self) -> None:
        """Take the chosen row."""
        if self._makers:
            self.post_message(self.Chosen(self.chosen))

    def render_line(self, y: int) -> Strip:
        """One row, marked when it is the chosen one."""
        index = y + self.scroll_offset.y
        width = self.scrollable_content_region.width
        if index >= len(self._makers):
            return Strip.blank(width, self._inks.style("text"))
        is_chosen = index == self.chosen
        row = padded(self._makers[index](width - len(_MARK)), width - len(_MARK))
        ground = "selection" if is_chosen else ""
        mark = Segment(_MARK if is_chosen else _NO_MARK, self._inks.style("accent", ground))
        return Strip([mark, *(Segment(span.text, self._ink(span.ink, ground)) for span in row)], width)

    def _ink(self, ink: str, ground: str) -> Style:
        is_plain = ground and ink in {"text", "muted"}
        return self._inks.style("selection-text" if is_plain else ink, ground)

    def on_click(self, event: events.Click) -> None:
        """Choose a row; the chosen one is taken."""
        index = event.y + self.scroll_offset.y
        if index == self.chosen:
            self.action_choose()
        elif index < len(self._makers):
            self.chosen = index

    def notify_style_update(self) -> None:
        """Make the styles anew."""
        self._inks.forget()
        super().notify_style_update()
