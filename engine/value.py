"""The base of all values, and the checks that they make when they are constructed."""

from __future__ import annotations

import math

import msgspec

from engine.errors import InvalidValue


class Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A frozen value that the wire can carry: str, int, float, tuple, Path and other values."""


def check(condition: bool, message: str, hint: str) -> None:
    """Raise InvalidValue unless a condition holds."""
    if not condition:
        raise InvalidValue(message, hint)


def check_range(name: str, value: float | None, low: float, high: float) -> None:
    """Raise InvalidValue for a number outside its range; None is left open."""
    if value is None:
        return
    in_range = math.isfinite(value) and low <= value <= high
    check(in_range, f"{name} is {value}.", f"It must lie between {low:g} and {high:g}.")
