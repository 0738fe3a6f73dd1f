"""Columns line up, whatever is in them."""

from __future__ import annotations

from tui.verbs.table import table_lines, width


def test_chinese_takes_two_columns() -> None:
    assert width("显存 x") == 6


def test_columns_line_up_and_numbers_stand_right() -> None:
    lines = table_lines(["name", "size"], [["显存", "1.0 GiB"], ["a", "200 MiB"]], numbers=" r")
    assert lines == ["name     size", "显存  1.0 GiB", "a     200 MiB"]


def test_hostile_cells_stay_in_their_line() -> None:
    lines = table_lines(["name"], [["a\n\x1b[2Jb"]])
    assert len(lines) == 2
    assert "\x1b" not in lines[1]
