import unicodedata

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from tests.vt_oracle import intruders
from tui.safe_text import (
    MARKS_PER_BASE,
    SafeText,
    cap_marks,
    install_strip_filter,
    on_screen,
    safe,
    safe_line,
)

ANYTHING = st.text(st.characters(codec=None), max_size=200)


@given(ANYTHING)
def test_safe_text_holds_no_control_but_newline_and_tab(text: str) -> None:
    assert not intruders(safe(text).replace("\n", "").replace("\t", "").encode())


@given(ANYTHING)
def test_making_text_safe_twice_changes_nothing_more(text: str) -> None:
    assert safe(str(safe(text))) == safe(text)


@given(st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"])))
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert safe(text) == text


@given(ANYTHING)
def test_a_safe_line_is_one_line(text: str) -> None:
    line = safe_line(text)
    assert isinstance(line, SafeText)
    assert not {"\n", "\t"} & set(line)


def test_controls_become_their_pictures_and_lone_surrogates_the_replacement_character() -> None:
    assert safe("a\x00b\x1b[31mc\x7f\x9bd\ud800") == "a␀b␛[31mc␡\ufffdd\ufffd"


def test_newlines_and_tabs_stay_and_carriage_returns_go() -> None:
    assert safe("a\r\nb\tc") == "a\nb\tc"


@pytest.mark.parametrize("mark", ["\u0301", "\u3099", "\u1160", "\u200d", "\ufe0f"])
def test_ten_thousand_marks_on_one_base_are_capped(mark: str) -> None:
    assert len(safe("e" + mark * 10_000)) <= 1 + MARKS_PER_BASE + 1


def test_marks_that_came_one_by_one_are_capped_when_they_are_joined() -> None:
    joined = "e" + "".join(safe("\u0301") for _ in range(500))
    assert len(cap_marks(joined)) == 1 + MARKS_PER_BASE


def test_words_that_use_marks_keep_them() -> None:
    text = "สวัสดีชาวโลก नमस्ते दुनिया é"
    assert safe(text) == text
    assert any(unicodedata.combining(character) for character in text)


@given(ANYTHING)
def test_what_a_strip_writes_is_clean_whatever_it_holds(text: str) -> None:
    install_strip_filter()
    strip = Strip([Segment(text, Style(bold=True)), Segment(text)])
    written = strip.render(Console(color_system="truecolor", force_terminal=True))
    assert not intruders(written.encode())
    assert "\n" not in written


def test_a_link_in_a_style_never_becomes_a_sequence() -> None:
    install_strip_filter()
    strip = Strip([Segment("here", Style(link="file:///etc/passwd", italic=True))])
    assert strip.render(Console(color_system="truecolor", force_terminal=True)) == "\x1b[3mhere\x1b[0m"


def test_installing_the_filter_twice_filters_once() -> None:
    install_strip_filter()
    first = Strip.render
    install_strip_filter()
    assert Strip.render is first


def test_on_screen_text_keeps_its_length_in_characters_for_newlines_and_tabs() -> None:
    assert on_screen("a\nb\tc") == "a␊b c"


@pytest.mark.parametrize(
    "emoji", ["\u26a0\ufe0f", "1\ufe0f\u20e3", "\U0001f44d\U0001f3fd", "\U0001f1e9\U0001f1ea"]
)
def test_what_follows_an_emoji_stands_in_its_cell_whatever_the_terminal_thinks(emoji: str) -> None:
    install_strip_filter()
    strip = Strip([Segment(f"a{emoji}|", Style(color="red"))])
    screen = pyte.Screen(20, 1)
    pyte.Stream(screen).feed(strip.render(Console()))
    assert strip.cell_length == 4
    assert screen.buffer[0][3].data == "|"
    assert intruders(strip.render(Console()).encode()) == []
