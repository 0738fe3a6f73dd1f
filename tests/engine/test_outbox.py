from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.events import AnyEvent, ModelUnloaded, TextDelta
from engine.outbox import Outbox
from tests.engine.listener import Listener


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def outbox(listener: Listener) -> Iterator[Outbox]:
    outbox = Outbox(listener)
    yield outbox
    outbox.close()


def test_the_first_piece_of_a_turn_goes_at_once(outbox: Outbox, listener: Listener) -> None:
    outbox.send(TextDelta(text="a"), 1)
    outbox.send(TextDelta(text="b"), 1)
    outbox.send(TextDelta(text="c"), 2)
    assert [event.turn_id for event in listener.events] == [1, 1, 2]
    assert listener.text(1) == "ab"


def test_text_that_no_more_text_follows_is_handed_on_all_the_same(outbox: Outbox, listener: Listener) -> None:
    outbox.send(TextDelta(text="a"), 1)
    outbox.send(TextDelta(text="b", completion_tokens=2), 1)
    last = listener.wait_for(TextDelta, count=2)
    assert (last.text, last.completion_tokens) == ("b", 2)


def test_pieces_that_come_fast_are_joined(outbox: Outbox, listener: Listener) -> None:
    began = time.monotonic()
    for _ in range(5000):
        outbox.send(TextDelta(text="word "), 1)
    outbox.close()
    periods = (time.monotonic() - began) / 0.033
    assert listener.text(1) == "word " * 5000
    assert len(listener.events) <= 3 + periods


def test_another_event_is_not_overtaken_by_text_nor_overtakes_it(outbox: Outbox, listener: Listener) -> None:
    outbox.send(TextDelta(text="a"), 1)
    outbox.send(TextDelta(text="b"), 1)
    outbox.send(ModelUnloaded(), 2)
    kinds = [type(event).__name__ for event in listener.events]
    assert kinds == ["TextDelta", "TextDelta", "ModelUnloaded"]


@given(st.lists(st.tuples(st.integers(1, 2), st.booleans(), st.text(max_size=3))))
def test_no_text_is_lost_and_reasoning_stays_reasoning(pieces: list[tuple[int, bool, str]]) -> None:
    received: list[AnyEvent] = []
    outbox = Outbox(received.append)
    for turn_id, reasoning, text in pieces:
        outbox.send(TextDelta(text=text, reasoning=reasoning), turn_id)
    outbox.close()
    deltas = [event for event in received if isinstance(event, TextDelta)]
    assert _joined([(event.turn_id, event.reasoning, event.text) for event in deltas]) == _joined(pieces)
    assert [event.seq for event in received] == list(range(1, len(received) + 1))


def _joined(pieces: list[tuple[int, bool, str]]) -> list[tuple[tuple[int, bool], str]]:
    runs = itertools.groupby(pieces, key=lambda piece: piece[:2])
    return [(kind, "".join(text for _, _, text in run)) for kind, run in runs]
