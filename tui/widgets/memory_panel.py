"""The live memory of every device, repainted twice a second at most and only where a cell changed."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from tui.format import format_rate
from tui.gauges import Gauge, device_gauges, joined
from tui.safe_text import safe_line
from tui.settled import History, Settled, engine_moved
from tui.widgets.device_gauge import FULL_DETAIL, SHAPES, SOLID, gauge_rows, part_label, short_row
from tui.widgets.row_view import RowView
from tui.widgets.rows import Row, Span, padded, spread, wrapped

if TYPE_CHECKING:
    from textual import events
    from textual.timer import Timer

    from engine import MemoryReading
    from engine.events import MemoryLedger

_PAUSE = 0.5
_QUIET_PAUSE = 2.0
"""Where only others moved: over a slow link their every stir is not worth its bytes."""
_FOLDED_ROWS = 2


class MemoryPanel(RowView):
    """Gauges as detailed as there is room: five rows a device, or one; two rows for all when folded."""

    DEFAULT_CSS = """
    MemoryPanel { height: 1fr; padding: 0 1; background: $background; color: $foreground; }
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002  # Textual's name
        """Begin without a reading."""
        super().__init__(id=id, classes=classes)
        self._settled = Settled()
        self._ledger: MemoryLedger | None = None
        self._history = History()
        self._painted_at = 0.0
        self._due: Timer | None = None
        self._due_at = 0.0

    def show_reading(self, reading: MemoryReading) -> None:
        """Take a reading: painted within half a second where the engine moved, else within two."""
        before = self._settled.reading
        now = self._settled.take(reading)
        self._history.note(now)
        self._paint_within(_PAUSE if before is None or engine_moved(before, now) else _QUIET_PAUSE)

    def show_ledger(self, ledger: MemoryLedger | None) -> None:
        """Take what the engine says it holds; None when it holds nothing any more."""
        if ledger != self._ledger:
            self._ledger = ledger
            self._paint_within(_PAUSE)

    def on_resize(self, _: events.Resize) -> None:
        """Draw with the detail that fits the new size."""
        self.show_rows(self._drawn())

    def _paint_within(self, pause: float) -> None:
        due_at = self._painted_at + pause
        if not self.is_mounted or (self._due is not None and self._due_at <= due_at):
            return
        if self._due is not None:
            self._due.stop()
        self._due, self._due_at = self.set_timer(max(0.001, due_at - monotonic()), self._paint), due_at

    def _paint(self) -> None:
        self._due = None
        self._painted_at = monotonic()
        self.show_rows(self._drawn())

    def _drawn(self) -> list[Row]:
        reading = self._settled.reading
        width, height = self.content_size
        if reading is None or width <= 0:
            return []
        gauges = device_gauges(reading, self._ledger)
        if height <= _FOLDED_ROWS:
            return folded_rows(gauges, reading, width, self._glyphs)[:height]
        drawn = (self._rows_of(gauges, reading, width, detail) for detail in range(FULL_DETAIL, 0, -1))
        shortest = self._rows_of(gauges, reading, width, 0)[:height]
        return next((rows for rows in drawn if len(rows) <= height), shortest)

    @property
    def _glyphs(self) -> dict[str, str]:
        return SHAPES if self.app.no_color else SOLID

    def _rows_of(self, gauges: list[Gauge], reading: MemoryReading, width: int, detail: int) -> list[Row]:
        blank = [padded((), width)] if detail == FULL_DETAIL else []
        rows = _note_rows(reading.gpu_note, width) + blank if reading.gpu_note and detail else []
        for gauge in gauges:
            rows += gauge_rows(gauge, width, self._history.shares(gauge.title), detail, self._glyphs) + blank
        disk = Span(f"read {format_rate(reading.disk_read_bps)}")
        return [*rows, spread((Span("disk", "strong"),), (disk,), width)]


def _note_rows(note: str, width: int) -> list[Row]:
    """Why there are no GPUs to show."""
    head = Span("GPU  ", "strong")
    texts = wrapped(safe_line(note), "muted", width - len(head.text))
    return [(head if number == 0 else Span("     "), *row) for number, row in enumerate(texts)]


def folded_rows(gauges: list[Gauge], reading: MemoryReading, width: int, glyphs: dict[str, str]) -> list[Row]:
    """Two rows for all devices: the GPUs and RAM, or RAM and its legend where there is no GPU."""
    *gpus, ram = gauges
    if not gpus:
        return [short_row(ram, width, glyphs), _folded_legend(ram, reading, width)]
    return [short_row(joined(gpus), width, glyphs), short_row(ram, width, glyphs)]


def _folded_legend(ram: Gauge, reading: MemoryReading, width: int) -> Row:
    disk = Span(f"disk {format_rate(reading.disk_read_bps)}", "muted")
    labels = [span for part in ram.parts for span in (part_label(part), Span(" · ", "line"))]
    return padded((*labels, disk), width)
