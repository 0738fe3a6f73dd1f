"""One device of a plan in rows: what it would hold, of what it could give, with a mark where its cap is."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from tui.format import format_size, format_used
from tui.gauges import Gauge, Part, cells
from tui.safe_text import SafeText, safe_line
from tui.widgets.device_gauge import SOLID, legend_row, short_size
from tui.widgets.rows import Row, Span, padded, row_width, spread

if TYPE_CHECKING:
    from engine.values import DevicePlan

CAP_MARK = "┃"
_BEYOND = "beyond"


class Held(NamedTuple):
    """What the engine process holds on one device.

    Attributes:
        now: bytes.
        peak: the most since the load began, in bytes.
    """

    now: int
    peak: int


class DeviceView(NamedTuple):
    """One device as the plan screen shows it.

    Attributes:
        plan: what it would hold.
        room: what it could give without a cap, in bytes.
        is_capped: the person gave it a cap.
        held: what the engine holds there now; None where the plan is not of the loaded model.
    """

    plan: DevicePlan
    room: int
    is_capped: bool = False
    held: Held | None = None


def device_title(plan: DevicePlan) -> SafeText:
    """What the screen calls a device: "GPU 0  RTX 4090", "RAM (cgroup)", "disk"."""
    name = plan.device.replace("gpu:", "GPU ").replace("ram", "RAM")
    label = plan.label.removeprefix(name).strip()
    return safe_line(f"{name}  {label}".strip() if label.lower() != name.lower() else name)


def device_gauge(view: DeviceView) -> Gauge:
    """What a device would hold, of what it could give; the parts add up to the larger of the two."""
    plan = view.plan
    used = plan.predicted_bytes
    total = max(view.room, plan.budget_bytes, used)
    left = max(0, plan.budget_bytes - used)
    parts = (
        Part("weights", "weights", plan.weight_bytes),
        Part("kv", "KV", plan.kv_bytes),
        Part("activations", "act", plan.activation_bytes),
        Part("others", "runtime", plan.runtime_bytes),
        Part("free", "left", left),
        Part(_BEYOND, "", total - used - left),
    )
    return Gauge(device_title(plan), used, total, parts)


def full_rows(view: DeviceView, width: int, glyphs: Mapping[str, str] = SOLID) -> list[Row]:
    """Title, bar and legend, and what is measured where something is."""
    gauge = device_gauge(view)
    title = spread((Span(gauge.title, "strong"), Span(" ")), (_figures(view.plan),), width)
    return [title, plan_bar(gauge, view, width, glyphs), *detail_rows(view, width)]


def short_row(view: DeviceView, width: int, glyphs: Mapping[str, str] = SOLID) -> Row:
    """Name, bar and figures in one row."""
    gauge = device_gauge(view)
    name, figures = Span(f"{gauge.title.split('  ')[0]:<6} ", "strong"), _figures(view.plan)
    room = width - row_width((name, figures)) - 1
    if room < len(SOLID):
        return spread((name,), (figures,), width)
    return (name, *plan_bar(gauge, view, room, glyphs), Span(" "), figures)


def detail_rows(view: DeviceView, width: int) -> list[Row]:
    """The parts with their sizes, then predicted beside measured."""
    told = [part for part in device_gauge(view).parts[:-1] if part.size_bytes or part.name == "free"]
    rows = [padded((*legend_row(told, width - _cap_width(view)), *_cap(view)), width)]
    if view.held is not None:
        rows.append(padded(_measured(view.held, view.plan.predicted_bytes), width))
    return rows


def _cap(view: DeviceView) -> Row:
    return (Span(f" cap {short_size(view.plan.budget_bytes)}", "accent"),) if view.is_capped else ()


def _cap_width(view: DeviceView) -> int:
    return row_width(_cap(view))


def _figures(plan: DevicePlan) -> Span:
    used = format_used(plan.predicted_bytes, plan.budget_bytes).rjust(17)
    return Span(used, "error" if plan.predicted_bytes > plan.budget_bytes else "text")


def _measured(held: Held, predicted: int) -> Row:
    figures = (
        f"{format_size(held.now)} now, {format_size(held.peak)} at most, {format_size(predicted)} predicted"
    )
    return (Span("holds ", "muted"), Span(figures, "text"))


def plan_bar(gauge: Gauge, view: DeviceView, width: int, glyphs: Mapping[str, str] = SOLID) -> Row:
    """The bar: one colour per part, the cap's mark, and what does not fit below it as an error."""
    shown = {**glyphs, _BEYOND: " "}
    line = [(shown[name], name) for name, count in cells(gauge, width) for _ in range(count)]
    mark = round(view.plan.budget_bytes / gauge.total_bytes * width) if gauge.total_bytes else width
    line[mark:] = [(glyph, ink if ink == _BEYOND else "error") for glyph, ink in line[mark:]]
    if mark < width and (view.is_capped or view.plan.predicted_bytes > view.plan.budget_bytes):
        line[mark] = (CAP_MARK, "accent")
    runs = groupby(line, key=lambda cell: cell[1])
    return tuple(
        Span("".join(glyph for glyph, _ in run), "free" if ink == _BEYOND else ink) for ink, run in runs
    )
