from __future__ import annotations

import pytest

import engine


@pytest.mark.parametrize("name", engine.__all__)
def test_everything_the_front_door_names_is_there(name: str) -> None:
    assert getattr(engine, name) is not None


def test_late_names_are_all_promised() -> None:
    assert set(engine._LATE) <= set(engine.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = engine.nothing_of_the_kind
