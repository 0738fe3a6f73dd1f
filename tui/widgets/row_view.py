"""A widget that is a list of rows; only the cells that changed are painted again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from tui.widgets.inks import Inks
from tui.widgets.rows import Row, changed_span


class RowView(Widget):
    """Rows in the palette's colours, kept by the widget and drawn line by line."""

    DEFAULT_CSS: ClassVar[str] = """
    RowView { height: auto; }
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002  # Textual's name
        """Begin without rows."""
        super().__init__(id=id, classes=classes)
        self._rows: list[Row] = []
        self._inks = Inks(self)

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
        """As high as there are rows at a width."""
        rows = self.rows_at(width)
        if rows is not None:
            self._rows = list(rows)
        return len(self._rows)

    def rows_at(self, width: int) -> Sequence[Row] | None:  # noqa: ARG002  # for those that override it
        """The rows of a widget that lays them out for its width; None for one that is given its rows."""
        return None

    def notify_style_update(self) -> None:
        """Forget the styles made from the palette before."""
        self._inks.forget()
        super().notify_style_update()

    def render_line(self, y: int) -> Strip:
        """One row, in the palette's colours."""
        width = self.content_size.width
        row = self._rows[y] if y < len(self._rows) else ()
        segments = [Segment(span.text, self._inks.style(span.ink)) for span in row]
        return Strip(segments).adjust_cell_length(width, self._inks.style("text")).simplify()
