"""A plan as text for people, 80 columns wide where nothing says otherwise."""

from __future__ import annotations

import itertools
import shutil
import textwrap
from collections.abc import Iterable, Iterator

from engine import values
from tui.format import format_duration, format_parameters, format_size, format_speed, format_tokens
from tui.safe_text import safe_line
from tui.verbs import output
from tui.verbs.planned import Plan
from tui.verbs.table import table_lines, width
from tui.verbs.training_table import training_lines

_WIDEST = 100
_LABEL_WIDTH = 14
_DEVICE_COLUMNS = ["device", "budget", "weights", "KV cache", "activ.", "runtime", "predicted"]
_ALTERNATIVE_COLUMNS = ["speed", "context", "quant", "fits", "what to change"]
_FITS = {
    values.Fits.GPU: "It fits on the GPU.",
    values.Fits.GPU_RAM: "It fits into GPU and RAM.",
    values.Fits.DISK: "It fits, with some of it read from the disk.",
    values.Fits.NO: "It does not fit.",
}


def write_plan(plan: Plan) -> None:
    """Write facts, and then either the training estimate or what would go where, how fast, and why."""
    sections = [_facts(plan), [*training_lines(plan)] if plan.training else [*_placed(plan)], _notes(plan)]
    for number, lines in enumerate(lines for lines in sections if lines):
        if number:
            output.write_line()
        for line in lines:
            output.write_line(line)


def _facts(plan: Plan) -> list[str]:
    verdict, placement = plan.study.verdict, plan.placement
    size = (
        f"{format_size(plan.weight_bytes)} {plan.dtype}{'' if verdict.is_on_disk else ', not on this disk'}"
    )
    window = f"{format_tokens(placement.context_window)} of {format_tokens(verdict.config.context_window)}"
    counted = "counted by a dry run" if plan.study.blueprint else "counted by closed forms"
    settings = f"context {window} · quantization {placement.quantization} · {placement.strategy}"
    named = f"{plan.architecture or 'A model'}, {format_parameters(plan.parameters)} parameters, {size}"
    with_adapter = [f"with {verdict.adapter.format} in {verdict.adapter.folder}"] if verdict.adapter else []
    head = [*_wrapped(safe_line(named)), str(verdict.folder), *map(safe_line, with_adapter)]
    return [*head, *_wrapped(f"{settings} · {counted}")]


def _placed(plan: Plan) -> Iterator[str]:
    placement = plan.placement
    rows = [_device_row(device) for device in placement.devices]
    yield from table_lines(_DEVICE_COLUMNS, rows, numbers=" rrrrrr")
    if placement.layers:
        yield ""
        yield from table_lines(["modules", "bytes", "tier", "device"], _runs(placement), numbers=" r")
    yield ""
    yield _fits(placement)
    if placement.forecast:
        yield ""
        yield from _forecast(placement.forecast)


def _fits(placement: values.Placement) -> str:
    has_gpu = any(device.device.startswith("gpu:") for device in placement.devices)
    if placement.fits is values.Fits.GPU_RAM and not has_gpu:
        return "It fits into RAM."
    return _FITS[placement.fits]


def _device_row(device: values.DevicePlan) -> list[str]:
    figures = (
        device.budget_bytes,
        device.weight_bytes,
        device.kv_bytes,
        device.activation_bytes,
        device.runtime_bytes,
        device.predicted_bytes,
    )
    return [_short(device.label or device.device), *map(format_size, figures)]


def _short(label: str) -> str:
    """As much of a device's label as the table has room for."""
    text = safe_line(label.replace("NVIDIA ", ""))
    return text if width(text) <= _LABEL_WIDTH else f"{text[: _LABEL_WIDTH - 1].rstrip()}…"


def _runs(placement: values.Placement) -> list[list[str]]:
    """Neighbours that lie in the same place, one row each: their names, bytes, tier and device."""
    runs = itertools.groupby(
        placement.layers, key=lambda layer: (_stem(layer.name), layer.tier, layer.device)
    )
    return [
        [_span([layer.name for layer in layers]), format_size(sum(layer.bytes for layer in layers)), *where]
        for (_, tier, device), group in runs
        for layers, where in [([*group], (str(tier), device))]
    ]


def _stem(name: str) -> str:
    stem, _, number = name.rpartition(".")
    return stem if number.isdecimal() else name


def _span(names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    return f"{names[0]} to {names[-1].rpartition('.')[2]}"


def _forecast(forecast: values.Forecast) -> Iterator[str]:
    """A line for each thing that is predicted, and what that rests on."""
    measured = "this machine's measured limits"
    lines = {
        "speed": _speed(forecast),
        "first token": f"{format_duration(forecast.time_to_first_token)} for a prompt of "
        f"{format_tokens(forecast.prompt_tokens)} tokens",
        "load": format_duration(forecast.load_seconds),
        "limited by": forecast.bound,
        "from": measured if forecast.is_measured else "typical figures; --measure finds this machine's own",
    }
    for name, text in lines.items():
        if text:
            yield from _wrapped(text, first=f"{name:13}", rest=" " * 13)


def _speed(forecast: values.Forecast) -> str:
    half, empty, full = map(
        format_speed, (forecast.decode_tps, forecast.decode_tps_empty, forecast.decode_tps_full)
    )
    if empty == full:
        return f"{half} at any length of context"
    return f"{half} with the context half full; {empty} empty, {full} full"


def _notes(plan: Plan) -> list[str]:
    if plan.training:
        return [*_bullets([*plan.training[1].notes, *plan.study.notes])]
    lines = [*_bullets([*plan.reasons, *plan.study.verdict.warnings])]
    alternatives = plan.placement.alternatives
    if not alternatives:
        return lines
    rows = [_alternative_row(alternative) for alternative in alternatives]
    table = table_lines(_ALTERNATIVE_COLUMNS, rows, numbers="rr")
    sentences_at = width(table[0]) - width(_ALTERNATIVE_COLUMNS[-1])
    return [*lines, "", *(part for line in table for part in _hanging(line, sentences_at))]


def _hanging(line: str, column: int) -> list[str]:
    """A table's line whose last cell goes on below itself."""
    return _wrapped(line[column:], first=line[:column], rest=" " * column)


def _alternative_row(alternative: values.Alternative) -> list[str]:
    forecast = alternative.forecast
    return [
        format_speed(forecast.decode_tps) if forecast else "",
        format_tokens(alternative.context_window),
        str(alternative.quantization),
        str(alternative.fits),
        alternative.change,
    ]


def _bullets(sentences: Iterable[str]) -> Iterator[str]:
    for sentence in sentences:
        yield from _wrapped(safe_line(sentence), first="- ", rest="  ")


def _wrapped(text: str, first: str = "", rest: str = "") -> list[str]:
    columns = min(shutil.get_terminal_size((80, 24)).columns, _WIDEST)
    return textwrap.wrap(text, max(columns, width(first) + 20), initial_indent=first, subsequent_indent=rest)
