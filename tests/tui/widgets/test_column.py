from hypothesis import given
from hypothesis import strategies as st

from tui.widgets.column import Column

HEIGHTS = st.lists(st.integers(0, 5), min_size=1, max_size=30)


def column_of(heights: list[int]) -> Column[list[int]]:
    column: Column[list[int]] = Column(lambda item: item[0])
    for height in heights:
        column.append([height])
    return column


@given(HEIGHTS)
def test_every_row_is_found_in_the_thing_that_covers_it(heights: list[int]) -> None:
    column = column_of(heights)
    covered = [(index, row) for index, height in enumerate(heights) for row in range(height)]
    assert [column.at(row) for row in range(column.height)] == covered


@given(HEIGHTS, st.data())
def test_a_thing_that_grew_moves_what_is_below(heights: list[int], data: st.DataObject) -> None:
    column = column_of(heights)
    index = data.draw(st.integers(0, len(heights) - 1))
    before = column.height
    column[index][0] += 3
    assert column.remeasure(index)
    assert not column.remeasure(index)
    assert column.height == before + 3


def test_replacing_keeps_what_is_above() -> None:
    column = column_of([1, 2, 3])
    assert column.height == 6
    column.replace(1, [[5]])
    assert (len(column), column.height, column.top(1)) == (2, 6, 1)
