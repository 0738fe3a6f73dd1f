import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidValue
from tui.format import (
    GIB,
    format_age,
    format_duration,
    format_gib,
    format_parameters,
    format_rate,
    format_size,
    format_speed,
    format_tokens,
    format_used,
    format_window,
    parse_gpu,
    parse_size,
)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1,023 B"),
        (1024, "1.0 KiB"),
        (72 * 1024**2, "72 MiB"),
        (1024**3 - 1, "1.0 GiB"),
        (15.3 * GIB, "15.3 GiB"),
        (1536 * GIB, "1.5 TiB"),
        (10**19, "8,881.8 PiB"),
    ],
)
def test_a_size_takes_the_unit_that_keeps_it_short(size: float, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(("size", "text"), [(0, "0"), (GIB * 3 // 10, ".3"), (139.8 * GIB, "139.8")])
def test_gib_without_a_unit_drops_the_leading_zero(size: float, text: str) -> None:
    assert format_gib(size) == text


def test_used_and_total_share_a_unit() -> None:
    assert format_used(41.2 * GIB, 139.8 * GIB) == "41.2 / 139.8 GiB"
    assert format_used(112 << 20, 512 << 20) == "112 / 512 MiB"


@pytest.mark.parametrize(("speed", "text"), [(0.04, "25 s/tok"), (1 / 495, "8 min/tok"), (0.0, "0.00 tok/s")])
def test_a_slow_speed_is_told_as_the_time_of_one_token(speed: float, text: str) -> None:
    assert format_speed(speed) == text


def test_rates_are_decimal_and_speeds_keep_three_digits() -> None:
    assert [format_rate(rate) for rate in (0, 2.4e6, 3.74e9)] == ["0 MB/s", "2 MB/s", "3.7 GB/s"]
    assert [format_speed(speed) for speed in (0.75, 31.42, 212.3)] == [
        "0.75 tok/s",
        "31.4 tok/s",
        "212 tok/s",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.21, "0.21 s"),
        (8.5, "8.5 s"),
        (42, "42 s"),
        (59.9, "60 s"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (4 * 86400 + 3 * 3600, "4 d 3 h"),
    ],
)
def test_a_duration_shows_two_units_at_most(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "now"), (59, "now"), (300, "5 min"), (3 * 3600, "3 h"), (2 * 86400, "2 d"), (5e6, "8 w")],
)
def test_an_age_is_one_unit(seconds: float, text: str) -> None:
    assert format_age(seconds) == text


def test_counts_read_as_people_say_them() -> None:
    assert format_tokens(32768) == "32,768"
    assert [format_window(count) for count in (512, 8192, 32768, 131072, 10000, 32800)] == [
        "512",
        "8k",
        "32k",
        "128k",
        "10k",
        "32.8k",
    ]
    assert [format_parameters(n) for n in (900, 5_200_000, 8_190_000_000, 671 * 10**9, 10**12)] == [
        "900",
        "5.2M",
        "8.2B",
        "671B",
        "1.0T",
    ]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("20GiB", 20 * GIB),
        ("20 gib", 20 * GIB),
        ("1.5TB", 1_500_000_000_000),
        ("512M", 512 << 20),
        ("8G", 8 * GIB),
        ("1024", 1024),
        ("7B", 7),
        (".5GiB", GIB // 2),
        ("0", 0),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "-1GiB", "1,5GiB", "20 GiB left", "1e9", "٣GiB", "nan"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        parse_size(text)
    assert "20GiB" in caught.value.hint


@given(st.integers(min_value=0, max_value=10**18 - 1))
def test_bytes_survive_being_written_and_read(size: int) -> None:
    assert parse_size(f"{size}B") == size


@given(st.text(alphabet="0123456789. KMGTPiB-٣", max_size=30))
def test_any_text_is_a_size_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidValue):
        assert parse_size(text) >= 0


def test_a_gpu_and_its_cap_are_read_together() -> None:
    assert parse_gpu("0=20GiB") == (0, 20 * GIB)
    assert parse_gpu(" 3 = 512M ") == (3, 512 << 20)


@pytest.mark.parametrize("text", ["20GiB", "0:20GiB", "a=1GiB", "=1GiB", "0="])
def test_a_gpu_without_index_or_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="does not name a GPU"):
        parse_gpu(text)
