"""How fast a plan would be, in two or three rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from engine.values import Fits, Tier
from tui.format import format_duration, format_speed, format_tokens
from tui.safe_text import safe_line
from tui.widgets.rows import Row, Span, padded, spread

if TYPE_CHECKING:
    from engine.values import Forecast, Placement, TurnUsage

_FIT_WORDS = {
    Fits.GPU: ("fits on the GPU", "success"),
    Fits.GPU_RAM: ("fits GPU and RAM", "warning"),
    Fits.DISK: ("needs the disk", "warning"),
    Fits.NO: ("does not fit", "error"),
}


_WIDE = 96


class Speeds(NamedTuple):
    """What is said of a plan's speed.

    Attributes:
        placement: of the plan.
        is_exact: its bytes come from a dry run.
        usage: of the last reply of the loaded model, where this is its plan and there was one.
    """

    placement: Placement
    is_exact: bool = False
    usage: TurnUsage | None = None


def fit_words(placement: Placement) -> Span:
    """How it fits, in a few words."""
    tiers = {layer.tier for layer in placement.layers}
    if placement.fits is Fits.GPU_RAM and tiers <= {Tier.CPU}:
        return Span("fits in RAM", "success")
    return Span(*_FIT_WORDS[placement.fits])


def forecast_rows(speeds: Speeds, width: int) -> list[Row]:
    """Fit and speed, what they rest on, and what was measured since."""
    placement = speeds.placement
    forecast = placement.forecast
    if forecast is None or placement.fits is Fits.NO:
        return [padded((fit_words(placement),), width), padded((), width)]
    rows = [padded((fit_words(placement), *_headline(forecast, width)), width)]
    rows.append(spread(_curve(forecast), _basis(speeds, width), width))
    if speeds.usage is not None and speeds.usage.decode_tps:
        rows.append(padded(_measured(speeds.usage, placement, forecast), width))
    return rows


def _headline(forecast: Forecast, width: int) -> Row:
    spans = [Span(" · ", "line"), Span(format_speed(forecast.decode_tps), "strong")]
    if forecast.time_to_first_token:
        waits = format_duration(forecast.time_to_first_token)
        spans += [Span(" · ", "line"), Span(f"first token {waits}", "text")]
        if width >= _WIDE:
            spans.append(Span(f" after {format_tokens(forecast.prompt_tokens)} tokens", "muted"))
    if forecast.load_seconds:
        spans += [Span(" · ", "line"), Span(f"load {format_duration(forecast.load_seconds)}", "text")]
    return tuple(spans)


def _curve(forecast: Forecast) -> Row:
    empty, half, full = (
        format_speed(speed).removesuffix(" tok/s")
        for speed in (forecast.decode_tps_empty, forecast.decode_tps, forecast.decode_tps_full)
    )
    curve = f"{empty} empty · {half} half · {full} full"
    if empty == full:
        curve = "the same at any length of context"
    bound = f" · limited by {safe_line(forecast.bound)}" if forecast.bound else ""
    return (Span(f"{curve}{bound}", "muted"),)


def _basis(speeds: Speeds, width: int) -> Row:
    """What the bytes rest on, where there is room to say it."""
    if width < _WIDE:
        return ()
    return (Span("sizes from a dry run" if speeds.is_exact else "sizes from formulas", "muted"),)


def speed_at(forecast: Forecast, context_window: int, context_used: int) -> float:
    """Predicted tokens per second with so much in the window: seconds grow evenly with it."""
    empty, full = forecast.decode_tps_empty, forecast.decode_tps_full
    if not (empty and full and context_window):
        return forecast.decode_tps
    share = min(1.0, context_used / context_window)
    return 1 / ((1 - share) / empty + share / full)


def _measured(usage: TurnUsage, placement: Placement, forecast: Forecast) -> Row:
    predicted = speed_at(forecast, placement.context_window, usage.context_used)
    told = (
        f"{format_speed(usage.decode_tps)} at {format_tokens(usage.context_used)} tokens, "
        f"{format_speed(predicted)} predicted"
    )
    return (Span("measured ", "muted"), Span(told, "text"))
