"""A placement drawn: a bar per device, what else could be done, the reasons, and the layers by tier."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from textual.geometry import Region

from engine.values import Fits, Placement
from tui.format import format_size
from tui.safe_text import safe_line
from tui.widgets.device_gauge import SHAPES, SOLID
from tui.widgets.plan_alternatives import alternative_rows
from tui.widgets.plan_bar import DeviceView, detail_rows, full_rows, short_row
from tui.widgets.row_view import RowView
from tui.widgets.rows import Row, Span, padded, wrapped

if TYPE_CHECKING:
    from engine.values import LayerPlacement

_WIDEST_BAR = 100
_MARK, _NO_MARK = Span("▌ ", "accent"), Span("  ")
_LOWER = "▆"
TIER_INKS = {"gpu": "weights", "stream": "kv", "cpu": "activations", "disk": "others"}
_TIER_WORDS = {
    "gpu": "rest and compute on the GPU",
    "stream": "rest in RAM, compute on the GPU",
    "cpu": "rest in RAM, compute on the CPU",
    "disk": "rest in files, are read for every token",
}


class PlanPage(NamedTuple):
    """What the page shows.

    Attributes:
        placement: of the plan.
        devices: as they are drawn.
        chosen: which device, or behind them which alternative, has the mark.
        is_compact: one row a device, for few lines or many devices.
    """

    placement: Placement
    devices: tuple[DeviceView, ...]
    chosen: int = 0
    is_compact: bool = False


class Block(NamedTuple):
    """Rows that belong together.

    Attributes:
        rows: each at the width of the page, less the mark.
        choice: which choice it is; None for what cannot be chosen.
    """

    rows: list[Row]
    choice: int | None = None


class PlacementView(RowView):
    """A plan laid out for the widget's width; the chosen device or alternative is marked."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002  # Textual's name
        """Begin without a plan."""
        super().__init__(id=id)
        self._page: PlanPage | None = None

    def show_page(self, page: PlanPage) -> None:
        """Draw a plan; what stays the same is not painted again."""
        self._page = page
        self.show_rows(self.rows_at(self.content_size.width))

    def rows_at(self, width: int) -> list[Row]:
        """All of it; nothing before there is a plan."""
        return [row for block in self._blocks(width) for row in self._marked(block, width)]

    def chosen_rows(self) -> Region:
        """Where in this view the chosen device or alternative is drawn."""
        at = 0
        for block in self._blocks(self.content_size.width):
            if self._is_chosen(block):
                return Region(0, at, 1, len(block.rows))
            at += len(block.rows)
        return Region(0, 0, 1, 1)

    def _blocks(self, width: int) -> list[Block]:
        if self._page is None or width <= 0:
            return []
        return page_blocks(self._page, width - len(_NO_MARK.text), SHAPES if self.app.no_color else SOLID)

    def _is_chosen(self, block: Block) -> bool:
        return self._page is not None and block.choice == self._page.chosen

    def _marked(self, block: Block, width: int) -> list[Row]:
        mark = _MARK if self._is_chosen(block) else _NO_MARK
        return [padded((mark, *row), width) for row in block.rows]


def page_blocks(page: PlanPage, width: int, glyphs: Mapping[str, str] = SOLID) -> list[Block]:
    """All of a plan: what can be chosen, then what explains it."""
    blank = Block([padded((), width)])
    blocks = [*_device_blocks(page, min(width, _WIDEST_BAR), glyphs), blank]
    alternatives = page.placement.alternatives
    if alternatives:
        title = "what would make it fit" if page.placement.fits is Fits.NO else "instead"
        blocks.append(_title(title, width))
        for number, alternative in enumerate(alternatives):
            choice = len(page.devices) + number
            rows = alternative_rows(number + 1, alternative, width, is_chosen=choice == page.chosen)
            blocks.append(Block(rows, choice))
        blocks.append(blank)
    return [*blocks, *_reasons(page.placement, width), *_layers(page.placement.layers, width, glyphs)]


def _device_blocks(page: PlanPage, width: int, glyphs: Mapping[str, str]) -> list[Block]:
    blocks: list[Block] = []
    for number, view in enumerate(page.devices):
        is_chosen = number == page.chosen
        is_short = page.is_compact or not (is_chosen or view.plan.predicted_bytes)
        if blocks and not page.is_compact:
            blocks.append(Block([padded((), width)]))
        rows = [short_row(view, width, glyphs)] if is_short else full_rows(view, width, glyphs)
        blocks.append(Block([*rows, *(detail_rows(view, width) if is_short and is_chosen else [])], number))
    return blocks


def _title(text: str, width: int) -> Block:
    return Block([padded((Span(text, "strong"),), width)])


def _reasons(placement: Placement, width: int) -> list[Block]:
    if not placement.reasons:
        return []
    rows = [row for reason in placement.reasons for row in _bullet(reason, width)]
    return [_title("why", width), Block([*rows, padded((), width)])]


def _bullet(reason: str, width: int) -> list[Row]:
    texts = wrapped(safe_line(reason), "text", width - 2)
    return [
        padded((Span("· " if number == 0 else "  ", "muted"), *row), width)
        for number, row in enumerate(texts)
    ]


def _layers(layers: tuple[LayerPlacement, ...], width: int, glyphs: Mapping[str, str]) -> list[Block]:
    """One cell per module in forward order, then each run of one tier in words."""
    if not layers:
        return []
    runs = [
        (tier, device, tuple(run))
        for (tier, device), run in groupby(layers, key=lambda layer: (layer.tier.value, layer.device))
    ]
    rows = [*_map(runs, width, glyphs), *(_run_row(run, tier, device, width) for tier, device, run in runs)]
    return [_title("layers, in forward order", width), Block(rows)]


Runs = list[tuple[str, str, tuple["LayerPlacement", ...]]]


def _map(runs: Runs, width: int, glyphs: Mapping[str, str]) -> list[Row]:
    """The cells of all modules; neighbouring GPUs differ in height."""
    cells = [
        Span(_LOWER if number % 2 and tier == "gpu" else glyphs[TIER_INKS[tier]], TIER_INKS[tier])
        for number, (tier, _, run) in enumerate(runs)
        for _ in run
    ]
    return [padded(tuple(cells[start : start + width]), width) for start in range(0, len(cells), width)]


def _run_row(run: tuple[LayerPlacement, ...], tier: str, device: str, width: int) -> Row:
    first, last = run[0].name.rpartition(".")[2], run[-1].name.rpartition(".")[2]
    names = first if len(run) == 1 else f"{first} … {last}"
    size = format_size(sum(layer.bytes for layer in run))
    words = f"  {len(run):>3}  {names[:24]:<24}  {size:>9}  {_TIER_WORDS[tier]}"
    where = "" if tier == "disk" else f" ({device})"
    return padded((Span(f"{tier:<6}", TIER_INKS[tier]), Span(safe_line(words + where), "muted")), width)
