"""A device drawn in rows of coloured text: title, bar, legend, sparkline. Knows no screen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.cells import cell_len

from tui.format import GIB, MIB, format_gib, format_used
from tui.gauges import Gauge, Part, cells
from tui.widgets.rows import Row, Span, padded, spread

SOLID = {"weights": "█", "kv": "█", "activations": "█", "others": "▒", "page-cache": "░", "free": "·"}
SHAPES = {"weights": "█", "kv": "▓", "activations": "▒", "others": "░", "page-cache": "-", "free": "·"}
"""A shape per part, so that a gauge can be read without colours."""

FULL_DETAIL = 3
LEVELS = "▁▂▃▄▅▆▇█"
_JOINTS = (" · ", "  ", " ")


def gauge_rows(
    gauge: Gauge,
    width: int,
    history: Sequence[float] = (),
    detail: int = FULL_DETAIL,
    glyphs: Mapping[str, str] = SOLID,
) -> list[Row]:
    """A device in 1 to 5 rows.

    Args:
        gauge: the device.
        width: cells of a row.
        history: shares of the device in use over the last minute, oldest first.
        detail: 0 is one row, 1 title and bar, 2 adds the legend, 3 the sparkline.
        glyphs: SOLID where there are colours, else SHAPES.
    """
    if not gauge.is_known:
        note = Span(gauge.note, "warning")
        return [padded((Span(gauge.title, "strong"), Span("  "), note), width)]
    if not detail:
        return [short_row(gauge, width, glyphs)]
    rows = [title_row(gauge, width), bar(gauge, width, glyphs)]
    if detail > 1:
        rows += legend(gauge, width)
    if detail == FULL_DETAIL and history:
        rows.append(sparkline(history, width))
    return rows


def title_row(gauge: Gauge, width: int) -> Row:
    """The device and its figures: "GPU 0  H200  41.2 / 139.8 GiB"."""
    note = (Span(f" {gauge.note}", "muted"),) if gauge.note else ()
    figures = Span(format_used(gauge.used_bytes, gauge.total_bytes), "text")
    return spread((Span(gauge.title, "strong"), *note, Span(" ")), (figures,), width)


def bar(gauge: Gauge, width: int, glyphs: Mapping[str, str] = SOLID) -> Row:
    """The device as `width` cells, one shape and colour per part."""
    return tuple(Span(glyphs[name] * count, name) for name, count in cells(gauge, width))


def legend(gauge: Gauge, width: int) -> list[Row]:
    """The parts and their GiB, three to a row: the engine's own, then everybody else's."""
    half = 3
    return [legend_row(gauge.parts[:half], width), legend_row(gauge.parts[half:], width)]


def legend_row(parts: Iterable[Part], width: int) -> Row:
    """Parts with their sizes: "weights 15.3 · KV 1.1 · act .3", closer together where the row is narrow."""
    labels = [part_label(part) for part in parts]
    texts = [label.text for label in labels]
    joint = next((joint for joint in _JOINTS if len(joint.join(texts)) <= width), _JOINTS[-1])
    # A blank in the colour of its neighbour costs the terminal no change of colour.
    spans = [
        span for label in labels for span in (Span(joint, "line" if joint.strip() else label.ink), label)
    ]
    return padded(tuple(spans[1:]), width)


def part_label(part: Part) -> Span:
    """A part's name and size in its colour: "KV 1.1"."""
    return Span(f"{part.label} {short_size(part.size_bytes)}", "muted" if part.name == "free" else part.name)


def short_size(size_bytes: int) -> str:
    """GiB without the unit ("15.3", "115"), or MiB with an M where that is too coarse ("12M")."""
    if size_bytes >= 100 * GIB:
        return f"{size_bytes / GIB:,.0f}"
    if size_bytes >= GIB // 10:
        return format_gib(size_bytes)
    return f"{size_bytes // MIB}M" if size_bytes >= MIB else "0"


def sparkline(history: Sequence[float], width: int) -> Row:
    """The last minute, newest right, with its length behind it."""
    label = " 60 s"
    room = max(0, width - len(label))
    top = len(LEVELS) - 1
    line = "".join([LEVELS[min(top, max(0, int(share * len(LEVELS))))] for share in history[-room:]])
    return padded((Span(line.rjust(room), "muted"), Span(label, "muted")), width)


def short_row(gauge: Gauge, width: int, glyphs: Mapping[str, str] = SOLID) -> Row:
    """A device in one row: "GPU 0 ██████▒░···· 41.2 / 139.8 GiB"."""
    name = f"{gauge.title.split('  ')[0]} "
    figures = f" {format_used(gauge.used_bytes, gauge.total_bytes)}"
    room = width - cell_len(name) - cell_len(figures)
    if room < len(SOLID):
        return padded((Span(name, "strong"), Span(figures.strip())), width)
    return (Span(name, "strong"), *bar(gauge, room, glyphs), Span(figures))
