"""What the rows of a plan say and draw."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.values import (
    Alternative,
    DevicePlan,
    Fits,
    Forecast,
    LayerPlacement,
    Placement,
    Quantization,
    Tier,
)
from tests.tui.readings import GIB
from tests.tui.screens.entries import PLACEMENT
from tui.widgets.device_gauge import SHAPES
from tui.widgets.placement_view import PlanPage, page_blocks
from tui.widgets.plan_alternatives import alternative_rows
from tui.widgets.plan_bar import CAP_MARK, DeviceView, Held, device_gauge, device_title, full_rows, short_row
from tui.widgets.plan_controls import Control, control_rows
from tui.widgets.plan_forecast import Speeds, forecast_rows, speed_at
from tui.widgets.rows import Row, row_width

GPU = DevicePlan(
    device="gpu:0",
    label="GPU 0 RTX 4080",
    budget_bytes=16 * GIB,
    weight_bytes=8 * GIB,
    kv_bytes=2 * GIB,
    activation_bytes=GIB,
    runtime_bytes=GIB,
)
SIZES = st.integers(0, 1 << 44)


def text(rows: list[Row]) -> str:
    return "\n".join("".join(span.text for span in row).rstrip() for row in rows)


def page_text(page: PlanPage, width: int = 100) -> str:
    return text([row for block in page_blocks(page, width) for row in block.rows])


def views(placement: Placement = PLACEMENT) -> tuple[DeviceView, ...]:
    return tuple(DeviceView(device, device.budget_bytes) for device in placement.devices)


@pytest.mark.parametrize("is_compact", [True, False])
@pytest.mark.parametrize("width", [1, 10, 40, 74, 110])
def test_a_plan_is_never_wider_than_asked(width: int, is_compact: bool) -> None:
    for chosen in range(7):
        blocks = page_blocks(PlanPage(PLACEMENT, views(), chosen, is_compact), width)
        assert all(row_width(row) <= width for block in blocks for row in block.rows)


def test_a_page_shows_devices_other_plans_reasons_and_the_runs_of_each_tier() -> None:
    page = page_text(PlanPage(PLACEMENT, views()))
    assert "GPU 0  RTX 4080" in page
    assert "weights 14.0 · KV 2.0 · act .5 · runtime .5 · left 1.0" in page
    assert "1  Quantize to nf4." in page
    assert "· 8 of 36 layers do not fit beside the KV cache" in page
    assert page.splitlines()[-4:] == [
        "█" * 28 + "█" * 5 + "▒" * 3,
        "gpu      28  0 … 27                     14.0 GiB  rest and compute on the GPU (gpu:0)",
        "stream    5  28 … 32                     2.5 GiB  rest in RAM, compute on the GPU (ram)",
        "disk      3  33 … 35                     1.5 GiB  rest in files, are read for every token",
    ]


def test_what_does_not_fit_shows_what_would() -> None:
    page = page_text(PlanPage(replace(PLACEMENT, fits=Fits.NO, layers=()), views()))
    assert "what would make it fit" in page
    assert "layers" not in page.splitlines()


def test_neighbouring_gpus_are_told_apart_in_the_map() -> None:
    layers = tuple(
        LayerPlacement(name=f"h.{n}", bytes=1, tier=Tier.GPU, device=f"gpu:{n // 4}") for n in range(12)
    )
    page = page_text(PlanPage(Placement(context_window=1, layers=layers), ()))
    assert "████▆▆▆▆████" in page


def test_a_device_says_what_it_would_hold_and_where_its_cap_is() -> None:
    title, bar, legend = full_rows(DeviceView(GPU, 32 * GIB, is_capped=True), 64)
    assert text([title]).split() == ["GPU", "0", "RTX", "4080", "12.0", "/", "16.0", "GiB"]
    drawn = text([bar])
    assert drawn.index(CAP_MARK) == 32
    assert drawn[:24] == "█" * 22 + "▒" * 2
    assert text([legend]).endswith("cap 16.0")


def test_a_device_that_would_be_overfull_is_drawn_full_and_in_the_colour_of_errors() -> None:
    view = DeviceView(replace(GPU, budget_bytes=6 * GIB), 6 * GIB)
    _, bar, _ = full_rows(view, 48)
    assert text([bar]).index(CAP_MARK) == 24
    assert {span.ink for span in bar if "█" in span.text} == {"weights", "error"}
    assert device_gauge(view).total_bytes == 12 * GIB


def test_every_part_has_a_shape_of_its_own_without_colours() -> None:
    bar = text([full_rows(DeviceView(GPU, 16 * GIB), 64, SHAPES)[1]])
    assert [glyph for glyph in "█▓▒░·" if glyph in bar] == list("█▓▒░·")


def test_predicted_stands_beside_measured() -> None:
    rows = full_rows(DeviceView(GPU, 16 * GIB, held=Held(11 * GIB, 23 * GIB // 2)), 80)
    assert text(rows).splitlines()[-1] == "holds 11.0 GiB now, 11.5 GiB at most, 12.0 GiB predicted"


@given(weights=SIZES, kv=SIZES, budget=SIZES, room=SIZES, width=st.integers(1, 120), capped=st.booleans())
def test_a_bar_is_as_wide_as_asked_whatever_the_figures(
    weights: int, kv: int, budget: int, room: int, width: int, capped: bool
) -> None:
    plan = DevicePlan(device="ram", budget_bytes=budget, weight_bytes=weights, kv_bytes=kv)
    view = DeviceView(plan, room, capped)
    gauge = device_gauge(view)
    assert sum(part.size_bytes for part in gauge.parts) == gauge.total_bytes
    assert row_width(full_rows(view, width)[1]) == (width if gauge.total_bytes else 0)
    assert row_width(short_row(view, width)) == width


@pytest.mark.parametrize(
    ("device", "label", "title"),
    [
        ("gpu:0", "GPU 0 H200", "GPU 0  H200"),
        ("gpu:1", "GPU 1", "GPU 1"),
        ("ram", "RAM (cgroup)", "RAM  (cgroup)"),
        ("disk", "disk", "disk"),
        ("disk", "", "disk"),
    ],
)
def test_a_device_is_named_once(device: str, label: str, title: str) -> None:
    assert device_title(DevicePlan(device=device, label=label, budget_bytes=1)) == title


def test_a_forecast_is_one_line_of_speeds_and_one_of_what_they_rest_on() -> None:
    rows = text(forecast_rows(Speeds(PLACEMENT, is_exact=True), 104)).splitlines()
    assert rows[0] == "needs the disk · 6.4 tok/s · first token 1.9 s after 512 tokens · load 9.4 s"
    assert rows[1].startswith("6.6 empty · 6.4 half · 6.2 full · limited by reading the disk")
    assert rows[1].endswith("sizes from a dry run")


def test_a_speed_that_stays_the_same_is_told_once() -> None:
    forecast = Forecast(decode_tps=6.4, decode_tps_empty=6.42, decode_tps_full=6.38)
    rows = text(forecast_rows(Speeds(replace(PLACEMENT, forecast=forecast)), 76)).splitlines()
    assert rows[1] == "the same at any length of context"


def test_without_a_forecast_only_the_fit_is_told() -> None:
    rows = text(forecast_rows(Speeds(replace(PLACEMENT, forecast=None, fits=Fits.NO)), 76)).split("\n")
    assert rows == ["does not fit", ""]


def test_speeds_lie_between_those_of_an_empty_and_a_full_window() -> None:
    forecast = Forecast(decode_tps=6.0, decode_tps_empty=10.0, decode_tps_full=5.0)
    assert speed_at(forecast, 100, 0) == pytest.approx(10.0)
    assert speed_at(forecast, 100, 50) == pytest.approx(1 / 0.15)
    assert speed_at(forecast, 100, 900) == pytest.approx(5.0)
    assert speed_at(Forecast(decode_tps=6.0), 100, 50) == 6.0


def test_another_plan_tells_all_of_itself_where_it_is_chosen() -> None:
    other = Alternative(
        change="Quantize to nf4: 6.0 GiB of weights, not 15.3 GiB.",
        context_window=8,
        quantization=Quantization.NF4,
        fits=Fits.GPU,
        forecast=Forecast(decode_tps=35.5),
    )
    (row,) = alternative_rows(2, other, 60)
    assert text([row]).split() == ["2", "Quantize", "to", "nf4", "GPU", "35.5", "tok/s"]
    rows = alternative_rows(2, other, 60, is_chosen=True)
    assert text(rows).splitlines()[1].strip() == "6.0 GiB of weights, not 15.3 GiB."
    lacking = Alternative(change="Free RAM.", context_window=8, ram_bytes=2 * GIB)
    assert "+2.0 GiB RAM" in text(alternative_rows(1, lacking, 60))


@pytest.mark.parametrize(("width", "rows"), [(104, 1), (76, 2), (38, 2)])
def test_controls_keep_their_keys_and_values_at_every_width(width: int, rows: int) -> None:
    controls = [
        Control("← →", "context", "8,192"),
        Control("q", "weights", "nf4"),
        Control("s", "strategy", "auto"),
    ]
    drawn = control_rows(controls, width)
    assert len(drawn) == rows
    assert all(row_width(row) == width for row in drawn)
    assert all(control.key in text(drawn) and control.value in text(drawn) for control in controls)
