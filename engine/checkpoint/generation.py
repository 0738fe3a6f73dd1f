"""The defaults that generation_config.json brings."""

from __future__ import annotations

import msgspec

from engine.checkpoint.files import JsonObject
from engine.errors import InvalidValue
from engine.values import SamplingParams

_FLOATS = ("temperature", "top_p", "min_p", "repetition_penalty")
_INTEGERS = ("top_k", "max_new_tokens")


def token_ids(value: object) -> tuple[int, ...]:
    """One id or a list of ids as a tuple; what is no token id is left out."""
    items = value if isinstance(value, list) else [value]
    return tuple(i for i in items if isinstance(i, int) and not isinstance(i, bool) and i >= 0)


def sampling_defaults(generation: JsonObject) -> SamplingParams:
    """SamplingParams of generation_config.json; fields that cannot be are left to the engine.

    A checkpoint that does not sample, or says nothing about it, is greedy: temperature 0.
    """
    said = {name: generation.get(name) for name in (*_FLOATS, *_INTEGERS)}
    if not generation.get("do_sample", said["temperature"] is not None):
        said.update(temperature=0.0, top_p=None, top_k=None, min_p=None)
    params = SamplingParams()
    for name, value in said.items():
        params = _with(params, name, value)
    return params


def _with(params: SamplingParams, name: str, value: object) -> SamplingParams:
    kind = int if name in _INTEGERS else (int, float)
    if not isinstance(value, kind) or isinstance(value, bool):
        return params
    try:
        return msgspec.structs.replace(params, **{name: value})
    except (InvalidValue, OverflowError):
        return params
