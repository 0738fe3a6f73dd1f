"""Sampling values as the person writes and reads them: `/set top_p 0.9`."""

from __future__ import annotations

import msgspec

from engine.errors import InvalidValue
from engine.values import SamplingParams

NAMES = tuple(name for name in SamplingParams.__struct_fields__ if name != "stop")
_WHOLE = frozenset({"top_k", "max_new_tokens", "seed"})
_UNSET = frozenset({"default", "auto", "none"})


def change(sampling: SamplingParams, name: str, written: str) -> SamplingParams:
    """Sampling with one value changed; `default` gives it back to the checkpoint.

    Raises:
        InvalidValue: no such value, no number, or out of range.
    """
    if name == "stop":
        stop = () if written in _UNSET else (written.replace("\\n", "\n"),)
        return msgspec.structs.replace(sampling, stop=stop)
    if name not in NAMES:
        raise InvalidValue(
            f"There is no sampling value {name!r}.", f"Choose one of: {', '.join(NAMES)}, stop."
        )
    value = None if written in _UNSET else _number(name, written)
    return msgspec.structs.replace(sampling, **{name: value})


def _number(name: str, written: str) -> float | int:
    try:
        return int(written) if name in _WHOLE else float(written)
    except ValueError as error:
        kind = "a whole number" if name in _WHOLE else "a number"
        raise InvalidValue(
            f"{name} must be {kind}, not {written!r}.", f"Write it like: /set {name} 1"
        ) from error


def describe(chosen: SamplingParams, recommended: SamplingParams | None) -> str:
    """All values in one line, the checkpoint's own in brackets."""
    parts = []
    for name in NAMES:
        value = getattr(chosen, name)
        own = getattr(recommended, name) if recommended else None
        if value is not None:
            parts.append(f"{name} {value:g}")
        elif own is not None:
            parts.append(f"{name} [{own:g}]")
    if chosen.stop:
        parts.append(f"stop {chosen.stop[0]!r}")
    return " · ".join(parts) or "all as the model recommends"
