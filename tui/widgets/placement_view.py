"""A placement drawn: a bar per device with what it will hold, then the reasons, then the layers by tier."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import TYPE_CHECKING

from engine.values import Fits
from tui.format import format_size, format_tokens, format_window
from tui.gauges import Gauge, Part
from tui.safe_text import safe_line
from tui.widgets.device_gauge import SHAPES, SOLID, bar, legend_row, title_row
from tui.widgets.row_view import RowView
from tui.widgets.rows import Row, Span, padded, wrapped

if TYPE_CHECKING:
    from engine.values import DevicePlan, LayerPlacement, Placement

_WIDEST = 72
TIER_INKS = {"gpu": "weights", "stream": "kv", "cpu": "activations", "disk": "others"}
_FIT_WORDS = {
    Fits.GPU: "fits the GPU",
    Fits.GPU_RAM: "fits GPU and RAM",
    Fits.DISK: "needs the disk",
    Fits.NO: "does not fit",
}
_TIER_WORDS = {
    "gpu": "rest and compute on the GPU",
    "stream": "rest in RAM, compute on the GPU",
    "cpu": "rest in RAM, compute on the CPU",
    "disk": "rest in files, are read for every token",
}


class PlacementView(RowView):
    """A placement laid out for the widget's width."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002  # Textual's name
        """Begin without a plan."""
        super().__init__(id=id)
        self._placement: Placement | None = None

    def show_placement(self, placement: Placement) -> None:
        """Draw a placement."""
        self._placement = placement
        self.refresh(layout=True)

    def rows_at(self, width: int) -> list[Row]:
        """All of it; nothing before there is a placement."""
        if self._placement is None:
            return []
        return placement_rows(self._placement, width, SHAPES if self.app.no_color else SOLID)


def placement_rows(placement: Placement, width: int, glyphs: dict[str, str] = SOLID) -> list[Row]:
    """All of a placement in rows."""
    if width <= 0:
        return []
    blank = padded((), width)
    rows: list[Row] = [_summary(placement, width), blank]
    for device in placement.devices:
        if device.predicted_bytes:
            rows += [*_device_rows(device, min(width, _WIDEST), glyphs), blank]
    if placement.reasons:
        rows += [padded((Span("why", "strong"),), width)]
        rows += [row for reason in placement.reasons for row in _bullet(reason, width)]
        rows += [blank]
    rows += _layer_rows(placement.layers, width, glyphs)
    return [padded(row, width) for row in rows]


def _summary(placement: Placement, width: int) -> Row:
    window = format_window(placement.context_window)
    stored = "as stored" if placement.quantization == "none" else placement.quantization.value
    text = f"context {format_tokens(placement.context_window)} ({window}) · weights {stored} · "
    return padded((Span(text, "muted"), Span(_FIT_WORDS[placement.fits], "strong")), width)


def device_gauge(device: DevicePlan) -> Gauge:
    """What a device will hold, of what the plan might take; more than that is drawn as full."""
    used = device.predicted_bytes
    total = max(device.budget_bytes, used)
    parts = (
        Part("weights", "weights", device.weight_bytes),
        Part("kv", "KV", device.kv_bytes),
        Part("activations", "act", device.activation_bytes),
        Part("others", "runtime", device.runtime_bytes),
        Part("free", "left", total - used),
    )
    name = device.device.replace("gpu:", "GPU ").replace("ram", "RAM")
    label = "" if device.label.lower().startswith(name.lower()) else device.label
    return Gauge(safe_line(f"{name}  {label}".strip()), used, total, parts)


def _device_rows(device: DevicePlan, width: int, glyphs: dict[str, str]) -> list[Row]:
    gauge = device_gauge(device)
    return [title_row(gauge, width), bar(gauge, width, glyphs), legend_row(_told(gauge.parts), width)]


def _told(parts: Iterable[Part]) -> list[Part]:
    return [part for part in parts if part.size_bytes or part.name == "free"]


def _bullet(reason: str, width: int) -> list[Row]:
    texts = wrapped(safe_line(reason), "text", width - 2)
    return [(Span("· " if number == 0 else "  ", "muted"), *row) for number, row in enumerate(texts)]


def _layer_rows(layers: Iterable[LayerPlacement], width: int, glyphs: dict[str, str]) -> list[Row]:
    """One cell per module in forward order, then each run of one tier in words."""
    layers = tuple(layers)
    if not layers:
        return []
    cells = [(layer.tier.value, glyphs[TIER_INKS[layer.tier]]) for layer in layers]
    rows: list[Row] = [padded((Span("layers, in forward order", "strong"),), width)]
    for start in range(0, len(cells), width):
        row = tuple(Span(glyph, TIER_INKS[tier]) for tier, glyph in cells[start : start + width])
        rows.append(padded(row, width))
    for (tier, device), run in groupby(layers, key=lambda layer: (layer.tier.value, layer.device)):
        rows.append(_run_row(tuple(run), tier, device, width))
    return rows


def _run_row(run: tuple[LayerPlacement, ...], tier: str, device: str, width: int) -> Row:
    first, last = run[0].name.rpartition(".")[2], run[-1].name.rpartition(".")[2]
    names = first if len(run) == 1 else f"{first} … {last}"
    size = format_size(sum(layer.bytes for layer in run))
    words = f"  {len(run):>3}  {names[:24]:<24}  {size:>9}  {_TIER_WORDS[tier]}"
    where = "" if tier == "disk" else f" ({device})"
    return padded((Span(f"{tier:<6}", TIER_INKS[tier]), Span(safe_line(words + where), "muted")), width)
