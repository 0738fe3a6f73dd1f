import hashlib
import random
from itertools import zip_longest

import pytest

from tests.tui.markdown.layouts import SAMPLE
from tui.markdown.piece import Piece
from tui.markdown.rows import BLANK, Row
from tui.safe_text import safe
from tui.widgets.turn import Turn
from tui.widgets.turn_parts import TurnMark

WIDTH = 60


def turn_of(reply: str = "", *, reasoning: str = "") -> Turn:
    turn = Turn("1", safe("why?\nhow?"), safe("model"), gap=False)
    turn.set_width(WIDTH)
    if reasoning:
        turn.append(safe(reasoning), reasoning=True, tokens=7)
    if reply:
        turn.append(safe(reply), reasoning=False)
    return turn


def drawn(turn: Turn) -> list[str]:
    return [row.drawn.rstrip() for row in turn.rows()]


def test_a_turn_is_its_prompt_and_three_dots_before_the_reply() -> None:
    assert drawn(turn_of()) == ["you", "why?", "how?", "", "model", "…"]


def test_the_footer_stands_at_the_right_of_the_reply_s_head() -> None:
    turn = turn_of("answer")
    turn.finish(safe("212 tok · 31/s"), TurnMark.NONE, safe(""))
    head = drawn(turn)[4]
    assert head.startswith("model ")
    assert head.endswith("212 tok · 31/s")


@pytest.mark.parametrize(
    ("mark", "sentence", "row"),
    [
        (TurnMark.STOPPED, "", "■ stopped"),
        (TurnMark.INTERRUPTED, "", "■ interrupted"),
        (TurnMark.LENGTH, "", "■ reached the limit of new tokens"),
        (TurnMark.FAILED, "Out of memory. Try a shorter context.", "■ Out of memory. Try a shorter context."),
    ],
)
def test_how_it_ended_is_a_row_below(mark: TurnMark, sentence: str, row: str) -> None:
    turn = turn_of("partial")
    turn.finish(safe(""), mark, safe(sentence))
    assert drawn(turn)[-3:] == ["partial", "", row]


def test_rows_that_come_are_drawn_though_they_are_blank() -> None:
    turn = turn_of("one")
    turn.advance()
    height = turn.height
    turn.append(safe("\n\ntwo"), reasoning=False)
    assert {height, height + 1} <= set(turn.advance())


def test_thinking_folds_into_one_row_and_opens() -> None:
    turn = turn_of(reasoning="step one\nstep two")
    assert drawn(turn)[5] == "▸ thinking · 7 tokens"
    turn.append(safe("answer"), reasoning=False)
    assert drawn(turn)[5:] == ["▸ thought for 7 tokens", "answer"]
    assert turn.toggle_reasoning()
    assert drawn(turn)[5:] == ["▾ thought for 7 tokens", "step one", "step two", "answer"]


def test_a_turn_without_thinking_has_nothing_to_open() -> None:
    assert not turn_of("answer").toggle_reasoning()


def test_the_context_line_is_drawn_above_the_first_turn_that_is_seen() -> None:
    turn = turn_of("answer")
    assert turn.mark_context(is_first_seen=True)
    assert not turn.mark_context(is_first_seen=True)
    assert "the model no longer sees what is above" in drawn(turn)[1]
    assert turn.mark_context(is_first_seen=False)
    assert drawn(turn)[0] == "you"


@pytest.mark.parametrize("seed", range(8))
def test_the_rows_that_advance_names_are_all_that_changed(seed: int) -> None:
    source = random.Random(seed)
    turn = turn_of(reasoning="thinking\nabout it")
    if seed % 2:
        turn.toggle_reasoning()
    turn.advance()
    shown = turn.rows()
    text, at = SAMPLE * 2, 0
    while at < len(text):
        size = source.randint(1, 30)
        turn.append(safe(text[at : at + size]), reasoning=seed % 3 == 0 and at % 7 == 0)
        at += size
        if at >= len(text):
            turn.finish(safe("done"), TurnMark.STOPPED, safe(""))
        changed = turn.advance()
        assert _different(shown, turn.rows()) <= set(changed)
        shown = turn.rows()


def _different(before: list[Row], after: list[Row]) -> set[int]:
    pairs = zip_longest(before, after, fillvalue=BLANK)
    return {row for row, (old, new) in enumerate(pairs) if old != new}


def test_check_24_a_long_reply_is_laid_out_a_piece_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    laid_out: list[int] = []
    lay_out = Piece.lay_out

    def counted(piece: Piece, width: int) -> list[Row]:
        laid_out.append(len(piece.source))
        return lay_out(piece, width)

    monkeypatch.setattr(Piece, "lay_out", counted)
    turn = turn_of()
    text = f"{SAMPLE}\n\n" * 800
    worst = 0
    for at in range(0, len(text), 400):
        laid_out.clear()
        turn.append(safe(text[at : at + 400]), reasoning=False)
        turn.advance()
        worst = max(worst, sum(laid_out))
    assert worst < 3000
    assert hashlib.sha256(turn.reply.encode()).digest() == hashlib.sha256(text.encode()).digest()


@pytest.mark.parametrize("unit", ["x", "word ", "中", "line\n"])
def test_check_24_a_megabyte_without_a_block_s_end_is_kept_whole(unit: str) -> None:
    text = "```\n" * (unit == "line\n") + unit * (1_000_000 // len(unit.encode()))
    turn = turn_of()
    for at in range(0, len(text), 50_000):
        turn.append(safe(text[at : at + 50_000]), reasoning=False)
        turn.advance()
    assert turn.reply == text
    assert turn.height > 2000


def test_another_width_lays_out_only_what_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    turn = turn_of(f"{SAMPLE}\n\n" * 200)
    turn.rows()
    turn.set_width(WIDTH - 13)
    laid_out: list[Piece] = []
    lay_out = Piece.lay_out

    def counted(piece: Piece, width: int) -> list[Row]:
        laid_out.append(piece)
        return lay_out(piece, width)

    monkeypatch.setattr(Piece, "lay_out", counted)
    turn.settle(100, 140)
    assert 0 < len(laid_out) < 60


def test_a_place_survives_another_width() -> None:
    turn = turn_of(f"{SAMPLE}\n\n" * 5)
    before = turn.rows()
    place = turn.place(40)
    turn.set_width(WIDTH - 20)
    after = turn.rows()
    turn.remeasure()
    assert before[40].text.split()[:2] == after[turn.row_of(*place)].text.split()[:2]


def test_a_reply_that_comes_at_once_is_shown_over_several_frames() -> None:
    lines = [f"line {n}" for n in range(9_000)]
    turn = turn_of("\n\n".join(lines))
    text = turn.reply
    frames = 0
    while turn.is_behind:
        turn.advance()
        frames += 1
        assert turn.reply == text
    assert frames == -(-len(text) // 32_768)
    assert [row for row in drawn(turn)[5:] if row] == lines
