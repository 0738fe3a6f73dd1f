"""A widget that is a list of rows; only the cells that changed are painted again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from tui.widgets.rows import Row, changed_span

_PLAIN = {"text": Style(), "strong": Style(bold=True)}


class RowView(Widget):
    """Rows in the palette's colours, kept by the widget and drawn line by line."""

    DEFAULT_CSS: ClassVar[str] = """
    RowView { height: auto; }
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002  # Textual's name
        super().__init__(id=id, classes=classes)
        self._rows: list[Row] = []
        self._styles: dict[str, Style] = {}

    def show_rows(self, rows: Sequence[Row]) -> None:
        """Take these rows; repaint what differs from those shown."""
        before, self._rows = self._rows, list(rows)
        if len(before) != len(self._rows):
            self.refresh(layout=self.styles.is_auto_height)
            return
        for number, (old, new) in enumerate(zip(before, self._rows, strict=True)):
            changed = changed_span(old, new)
            if changed:
                first, count = changed
                self.refresh(Region(first, number, count, 1).translate(self.gutter.top_left))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:  # noqa: ARG002  # Textual's
        """As high as there are rows."""
        return len(self._rows)

    def notify_style_update(self) -> None:
        """Forget the styles made from the palette before."""
        self._styles.clear()
        super().notify_style_update()

    def render_line(self, y: int) -> Strip:
        """One row, in the palette's colours."""
        width = self.content_size.width
        row = self._rows[y] if y < len(self._rows) else ()
        segments = [Segment(span.text, self._style(span.ink)) for span in row]
        return Strip(segments).adjust_cell_length(width, self._style("text"))

    def _style(self, ink: str) -> Style:
        if ink not in self._styles:
            own = self.visual_style.rich_style
            colour = None if ink in _PLAIN else self.app.theme_variables.get(ink)
            tint = Style.from_color(Color.parse(colour).rich_color) if colour else _PLAIN.get(ink, Style())
            self._styles[ink] = own + tint
        return self._styles[ink]
