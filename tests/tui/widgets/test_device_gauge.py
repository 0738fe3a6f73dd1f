from hypothesis import given
from hypothesis import strategies as st
from rich.segment import Segment
from textual.strip import Strip

from tests.tui.readings import GIB, gpu, ledger, reading
from tui.gauges import device_gauges
from tui.widgets.device_gauge import SHAPES, SOLID, gauge_rows, short_row, short_size, sparkline
from tui.widgets.rows import Row, Span, changed_span, padded, row_width, spread

GAUGE, RAM = device_gauges(reading(gpu()), ledger())
INKS = st.sampled_from(["text", "muted", "kv"])
PLAIN = st.lists(st.builds(Span, st.text(alphabet="ab界 █", max_size=8), INKS), max_size=6).map(tuple)
ROWS = st.lists(st.builds(Span, st.text(alphabet="ab界e\u0301 █", max_size=8), INKS), max_size=6).map(tuple)


def text(row: Row) -> str:
    return "".join(span.text for span in row)


def test_a_gauge_says_what_it_draws() -> None:
    title, bar, own, others, line = [text(row) for row in gauge_rows(GAUGE, 32, [0.1, 0.5, 0.99])]
    assert title == "GPU 0  H200     41.2 / 139.8 GiB"
    assert bar == "█████" + "▒▒▒▒▒" + "·" * 22
    assert own == "weights 12.3 · KV 3.1 · act 3.4 "
    assert others == "others 22.4 · free 98.6         "
    assert line.split() == ["▁▅█", "60", "s"]


def test_less_room_means_less_detail() -> None:
    assert [len(gauge_rows(GAUGE, 32, [0.5], detail)) for detail in (0, 1, 2, 3)] == [1, 2, 4, 5]
    assert text(short_row(GAUGE, 32)).startswith("GPU 0 █")
    assert text(short_row(GAUGE, 24)) == "GPU 0 41.2 / 139.8 GiB  "


def test_six_parts_of_ram_fit_two_rows_of_32_cells() -> None:
    rows = gauge_rows(RAM, 32, detail=2)
    assert [text(row) for row in rows[2:]] == [
        "weights 6.1 · KV .2 · engine 1.8",
        "others 16.2 cache 17.9 free 80.8",
    ]


def test_every_part_has_a_shape_of_its_own_for_screens_without_colours() -> None:
    assert len(set(SHAPES.values())) == len(SHAPES)
    assert SHAPES.keys() == SOLID.keys()
    assert text(gauge_rows(GAUGE, 32, glyphs=SHAPES)[1]).startswith("███▓▒░")


def test_a_gauge_that_cannot_be_read_is_one_row_with_the_reason() -> None:
    broken = device_gauges(reading(gpu(problem="n/a (driver gone)")), None)[0]
    assert [text(row) for row in gauge_rows(broken, 32)] == ["GPU 0  H200  n/a (driver gone)  "]


def test_small_sizes_are_in_mib_and_large_ones_without_decimals() -> None:
    assert [short_size(size) for size in (0, 12 << 20, GIB // 2, 15 * GIB, 115 * GIB)] == [
        "0",
        "12M",
        ".5",
        "15.0",
        "115",
    ]


@given(st.lists(st.floats(min_value=-1, max_value=2), max_size=50), st.integers(min_value=6, max_value=60))
def test_a_sparkline_has_the_asked_width(shares: list[float], width: int) -> None:
    assert row_width(sparkline(shares, width)) == width


@given(ROWS, st.integers(min_value=0, max_value=40))
def test_a_padded_row_has_exactly_the_asked_width(row: Row, width: int) -> None:
    assert row_width(padded(row, width)) == width


@given(ROWS, ROWS, st.integers(min_value=0, max_value=40))
def test_two_ends_of_a_row_have_exactly_the_asked_width(left: Row, right: Row, width: int) -> None:
    assert row_width(spread(left, right, width)) == width


@given(PLAIN, PLAIN, st.integers(min_value=1, max_value=30))
def test_rows_are_equal_before_and_behind_the_cells_that_are_painted_again(
    old: Row, new: Row, width: int
) -> None:
    before, after = (Strip([Segment(s.text) for s in padded(row, width)]) for row in (old, new))
    first, count = changed_span(padded(old, width), padded(new, width)) or (0, 0)
    assert before.crop(0, first).text == after.crop(0, first).text
    assert before.crop(first + count).text == after.crop(first + count).text


def test_only_the_cells_that_changed_are_painted_again() -> None:
    old = (Span("weights 12.3 "), Span("KV 1.1", "kv"))
    assert changed_span(old, old) is None
    assert changed_span(old, (Span("weights 12.3 "), Span("KV 1.2", "kv"))) == (18, 1)
    assert changed_span(old, (Span("weights 12.3 "), Span("KV 1.1", "muted"))) == (13, 6)
    assert changed_span(old, (Span("weights 12.3 K"), Span("V 1.1", "kv"))) == (13, 1)
    assert changed_span(old, (Span("short"),)) == (0, 19)
    assert changed_span((Span("a"), Span("b")), (Span("ab"),)) is None
    assert changed_span((Span("ae\u0301b"),), (Span("aeb"),)) == (1, 1)
    assert changed_span((Span("界ab"),), (Span("界aB"),)) == (3, 1)
