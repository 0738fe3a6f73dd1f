from __future__ import annotations

from typing import get_args

import pytest

from engine.commands import AnyCommand, Command


def test_any_command_names_every_command() -> None:
    assert set(get_args(AnyCommand)) == set(Command.__subclasses__())


@pytest.mark.parametrize("kind", get_args(AnyCommand), ids=lambda kind: kind.__name__)
def test_every_field_of_a_command_is_described(kind: type[Command]) -> None:
    own = set(kind.__struct_fields__) - {"turn_id"}
    assert all(f"    {field}: " in (kind.__doc__ or "") for field in own)


@pytest.mark.parametrize("kind", get_args(AnyCommand), ids=lambda kind: kind.__name__)
def test_a_command_is_frozen(kind: type[Command]) -> None:
    assert kind.__struct_config__.frozen
