import pytest
from rich.cells import cell_len

from tests.tui.markdown.layouts import SAMPLE, drawn, rows_of


def test_headings_keep_their_text_and_lose_their_marks() -> None:
    (row,) = rows_of(["## Part *two*"], 40)
    assert row.drawn == "Part two"
    assert {span.ink[:2] for span in row.spans} == {("heading", "h2")}


def test_lists_nest_and_count() -> None:
    text = "- a\n  - b\n    - c\n- d\n\n3. e\n4. f\n   1. g"
    assert drawn(text) == ["• a", "  ◦ b", "    ▪ c", "• d", "", "3. e", "4. f", "   1. g"]


def test_tasks_have_boxes() -> None:
    assert drawn("- [ ] open\n- [x] done\n- [y] neither") == ["☐ open", "☑ done", "• [y] neither"]


def test_a_wrapped_item_hangs_below_its_text() -> None:
    assert drawn("- one two three", 9) == ["• one two", "  three"]


def test_quotes_have_a_bar_on_every_row() -> None:
    assert drawn("> one two\n>\n> > deep", 6) == ["│ one", "│ two", "│", "│ │ de", "│ │ ep"]


def test_blank_lines_are_where_the_source_has_them() -> None:
    assert drawn("a\nb\n\n\n\nc\n- d") == ["a", "b", "", "c", "• d"]


def test_a_heading_has_air_above_even_if_the_source_has_none() -> None:
    assert drawn("a\n# b\nc") == ["a", "", "b", "c"]


def test_html_is_text() -> None:
    assert drawn("<script>alert(1)</script>\n\na <b>bold</b> claim") == [
        "<script>alert(1)</script>",
        "",
        "a <b>bold</b> claim",
    ]


def test_code_inside_an_item_keeps_its_lines() -> None:
    assert drawn("- a\n\n  ```\n  x  y\n\n  z\n  ```") == ["• a", "", "  x  y", "", "  z"]


def test_tables_align_their_columns_by_cells() -> None:
    rows = drawn("| a | 中文 | n |\n|---|:-:|--:|\n| 表格 | b | 1 |")
    assert rows == ["a     中文  n", "───────────────"[: cell_len("表格  中文  1")], "表格   b    1"]


def test_a_table_too_wide_wraps_its_cells() -> None:
    rows = drawn("| one | two |\n|---|---|\n| many words in here | x |", 14)
    assert all(cell_len(row) <= 14 for row in rows)
    assert "".join(rows).replace(" ", "") == "onetwo──────────────manyxwordsinhere"


def test_an_empty_item_is_drawn() -> None:
    assert drawn("- \n- a") == ["•", "• a"]


@pytest.mark.parametrize("width", [1, 2, 5, 20, 200])
def test_any_width_can_be_laid_out(width: int) -> None:
    rows = rows_of([SAMPLE], width)
    assert rows
    if width >= 20:
        assert all(cell_len(row.drawn.rstrip()) <= width for row in rows)


def test_a_table_of_very_many_columns_is_shown_as_it_is_written() -> None:
    head = "|a" * 70 + "|"
    assert "".join(drawn(f"{head}\n{'|-' * 70}|\n|b|", 200)).startswith("|a|a")
