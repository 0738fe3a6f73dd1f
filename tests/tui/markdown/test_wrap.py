import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tui.markdown.rows import Line, Row, Span, joined
from tui.markdown.wrap import wrap
from tui.safe_text import safe

WORDS = st.text(st.sampled_from("ab ,.中文，。「」é e\u0301👍🏽\u200d♀️—"), max_size=120).map(safe)


def lines(text: str, width: int, **more: object) -> list[str]:
    return [row.drawn for row in wrap(Line((Span(text),), **more), width)]  # type: ignore[arg-type] # test's own


def seen(row: Row) -> int:
    return cell_len(row.drawn.rstrip())


@given(WORDS, st.integers(1, 90), st.booleans())
def test_rows_joined_are_the_text(text: str, width: int, verbatim: bool) -> None:
    assert joined(wrap(Line((Span(text),) if text else (), verbatim=verbatim), width)) == text


@given(WORDS, st.integers(2, 90))
def test_no_row_is_wider_than_the_screen(text: str, width: int) -> None:
    assert all(seen(row) <= width for row in wrap(Line((Span(text),) if text else ()), width))


@given(st.lists(WORDS.filter(bool), min_size=1, max_size=6), st.integers(1, 40))
def test_inks_survive_wrapping(texts: list[str], width: int) -> None:
    spans = tuple(Span(text, (str(index),)) for index, text in enumerate(texts))
    rows = wrap(Line(spans), width)
    for index, text in enumerate(texts):
        assert "".join(span.text for row in rows for span in row.spans if span.ink == (str(index),)) == text


def test_text_is_broken_between_words() -> None:
    assert lines("one two three", 8) == ["one two ", "three"]


def test_a_word_longer_than_the_row_is_broken_anywhere() -> None:
    assert lines("abcdefghij", 4) == ["abcd", "efgh", "ij"]


def test_cjk_is_broken_between_characters_but_not_before_a_closing_mark() -> None:
    assert lines("中文，好的。", 5) == ["中", "文，", "好", "的。"]


def test_a_wide_character_never_straddles_the_edge() -> None:
    assert lines("中文字", 5) == ["中文", "字"]


def test_code_is_broken_at_the_edge_alone() -> None:
    assert lines("ab cd ef", 4, verbatim=True) == ["ab c", "d ef"]


def test_decoration_is_drawn_first_and_is_no_text() -> None:
    line = Line((Span("one two"),), (Span("• "),), (Span("  "),))
    rows = wrap(line, 6)
    assert [row.drawn for row in rows] == ["• one ", "  two"]
    assert joined(rows) == "one two"


def test_a_rule_is_as_wide_as_the_screen_and_says_nothing() -> None:
    (row,) = wrap(Line(rule=True), 7)
    assert (row.drawn, row.text) == ("─" * 7, "")


@pytest.mark.parametrize("unit", ["x", "word ", "中"])
def test_a_line_of_a_megabyte_is_laid_out_whole(unit: str) -> None:
    text = unit * (1_000_000 // len(unit.encode()))
    assert joined(wrap(Line((Span(text),)), 80)) == text
