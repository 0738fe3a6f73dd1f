"""Text is never lost on its way to the screen; readings give way to newer ones."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from engine.events import PrefillProgress, TextDelta, TurnFinished
from engine.values import FinishReason
from tui.inbox import Inbox


def delta(text: str, *, turn_id: int = 1, reasoning: bool = False) -> TextDelta:
    return TextDelta(turn_id=turn_id, text=text, reasoning=reasoning)


def quiet() -> Inbox:
    return Inbox(lambda: None)


@given(st.lists(st.tuples(st.integers(1, 2), st.booleans(), st.text(min_size=1), st.booleans())))
def test_all_text_arrives_in_order_however_often_it_is_taken(
    pieces: list[tuple[int, bool, str, bool]],
) -> None:
    inbox = quiet()
    taken: list[object] = []
    for turn_id, reasoning, text, takes in pieces:
        inbox.put(delta(text, turn_id=turn_id, reasoning=reasoning))
        taken += inbox.take() if takes else ()
    taken += inbox.take()
    for key in [(turn_id, reasoning) for turn_id in (1, 2) for reasoning in (False, True)]:
        put = "".join(text for turn_id, reasoning, text, _ in pieces if (turn_id, reasoning) == key)
        got = [each for each in taken if isinstance(each, TextDelta)]
        assert "".join(each.text for each in got if (each.turn_id, each.reasoning) == key) == put


def test_a_reading_is_replaced_and_keeps_its_place_before_what_follows() -> None:
    inbox = quiet()
    inbox.put(PrefillProgress(done_tokens=1, total_tokens=2))
    inbox.put(delta("a"))
    inbox.put(PrefillProgress(done_tokens=2, total_tokens=2))
    finished = TurnFinished(finish_reason=FinishReason.STOP)
    inbox.put(finished)
    assert inbox.take() == (delta("a"), PrefillProgress(done_tokens=2, total_tokens=2), finished)
    assert inbox.take() == ()


def test_a_stalled_screen_costs_one_entry_of_text() -> None:
    inbox = quiet()
    for _ in range(10_000):
        inbox.put(delta("x"))
    assert inbox.take() == (delta("x" * 10_000),)


def test_the_screen_is_woken_once_until_it_takes() -> None:
    woken: list[int] = []
    inbox = Inbox(lambda: woken.append(threading.get_ident()))
    for _ in range(3):
        inbox.put(delta("x"))
    assert len(woken) == 1
    inbox.take()
    inbox.put(delta("x"))
    assert len(woken) == 2
