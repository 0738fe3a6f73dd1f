import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tui.markdown.layouts import SAMPLE, pieces_of, rows_of
from tui.markdown.piece import CodePiece
from tui.markdown.rows import joined
from tui.markdown.splitter import CODE_LINES, LONGEST_PIECE, MarkdownSplitter, PlainSplitter
from tui.safe_text import safe

FRAGMENTS = st.sampled_from(
    (
        *(
            "word ",
            "中文",
            "\n",
            "\n\n",
            "- ",
            "  - ",
            "1. ",
            "# ",
            "> ",
            "```\n",
            "```py\n",
            "~~~\n",
            "***\n",
        ),
        *(
            "---\n",
            "| a | b |\n",
            "|---|---|\n",
            "    ",
            "`",
            "**",
            "[x](y)",
            "~",
            "=\n",
            "\t",
            "<b>",
            "&amp;",
        ),
    )
)


def chopped(text: str, seed: int, longest: int = 9) -> list[str]:
    source = random.Random(seed)
    chunks: list[str] = []
    at = 0
    while at < len(text):
        size = source.randint(1, longest)
        chunks.append(text[at : at + size])
        at += size
    return chunks


@pytest.mark.parametrize("seed", range(10))
def test_a_streamed_reply_looks_as_it_does_at_once(seed: int) -> None:
    text = f"{SAMPLE}\n\n" * 6
    assert rows_of(chopped(text, seed), 60) == rows_of([text], 60)


@settings(max_examples=150)
@given(st.lists(FRAGMENTS, max_size=60).map("".join), st.integers(0, 2**32))
def test_any_markdown_looks_the_same_however_it_arrives(text: str, seed: int) -> None:
    assert rows_of(chopped(text, seed, 4), 40) == rows_of([text], 40)


@settings(max_examples=100)
@given(st.text(max_size=300).map(safe), st.integers(1, 100))
def test_plain_text_joined_back_is_the_text(text: str, width: int) -> None:
    pieces = pieces_of([text], PlainSplitter())
    rows = [row for piece in pieces for row in piece.rows(width)]
    assert joined(rows).rstrip("\n") == text.expandtabs(4).rstrip("\n")


@settings(max_examples=60)
@given(st.text(st.characters(codec="utf-8", exclude_characters="`~"), max_size=300).map(safe))
def test_code_in_a_fence_is_shown_to_the_letter(code: str) -> None:
    rows = rows_of([f"```\n{code}\n```\n"], 50)
    assert joined(rows) == code.expandtabs(4)


def test_only_the_last_block_stays_open() -> None:
    splitter = MarkdownSplitter()
    closed = splitter.feed("one\n\ntwo\n\nthree\n")
    assert [piece.source for piece in closed] == ["one", "two"]
    opened = splitter.open_piece()
    assert opened is not None
    assert opened.source == "three\n"


def test_items_of_a_list_are_closed_one_by_one_and_go_on_counting() -> None:
    splitter = MarkdownSplitter()
    closed = [piece for chunk in ("1. a\n", "1. b\n", "1. c\n", "1. d\n") for piece in splitter.feed(chunk)]
    opened = splitter.open_piece()
    assert opened is not None
    rows = [piece.rows(20)[0].drawn for piece in [*closed, opened]]
    assert rows == ["1. a", "2. b", "3. c", "4. d"]


def test_a_line_that_may_still_become_something_else_closes_nothing() -> None:
    splitter = MarkdownSplitter()
    assert splitter.feed("para\n#") == []
    assert splitter.feed("no heading\n") == []


def test_long_code_is_cut_into_sections_without_a_seam() -> None:
    code = "".join(f"line {number}\n" for number in range(3 * CODE_LINES))
    pieces = pieces_of([f"```py\n{code}```\n"])
    assert [type(piece) for piece in pieces] == [CodePiece] * 3
    assert joined(row for piece in pieces for row in piece.rows(80)) == code.removesuffix("\n")


@pytest.mark.parametrize("unit", ["x", "word ", "中"])
def test_a_block_without_an_end_is_cut_and_loses_nothing(unit: str) -> None:
    text = unit * 30_000
    pieces = pieces_of([text])
    assert all(len(piece.source) <= LONGEST_PIECE for piece in pieces)
    assert joined(row for piece in pieces for row in piece.rows(80)) == text


def test_a_closing_fence_on_its_way_is_not_shown() -> None:
    splitter = MarkdownSplitter()
    splitter.feed("```\ncode\n``")
    opened = splitter.open_piece()
    assert opened is not None
    assert [row.text for row in opened.rows(20)] == ["code"]
