from __future__ import annotations

from typing import get_args

import pytest

from engine.events import DROPPABLE, AnyEvent, Event, Failed, TextDelta, TurnFinished


def test_any_event_names_every_event() -> None:
    assert set(get_args(AnyEvent)) == set(Event.__subclasses__())


@pytest.mark.parametrize("kind", get_args(AnyEvent), ids=lambda kind: kind.__name__)
def test_every_field_of_an_event_is_described(kind: type[Event]) -> None:
    own = set(kind.__struct_fields__) - {"seq", "turn_id"}
    assert all(f"    {field}: " in (kind.__doc__ or "") for field in own)


def test_text_and_answers_are_never_droppable() -> None:
    assert not {TextDelta, TurnFinished, Failed} & set(DROPPABLE)
    assert set(DROPPABLE) < set(get_args(AnyEvent))
