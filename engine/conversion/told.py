"""What a conversion tells on its way: one JSON document a line."""

from __future__ import annotations

import msgspec

from engine.value import Value


class ConvertProgress(Value, frozen=True, kw_only=True, tag=True):
    """How far it is.

    Attributes:
        done_bytes: of the pickles, those whose tensors are written.
        total_bytes: of the pickles.
    """

    done_bytes: int
    total_bytes: int


class Converted(Value, frozen=True, kw_only=True, tag=True):
    """The safetensors are in their place; last.

    Attributes:
        files: their names.
        tensors: in all of them.
        total_bytes: of those.
        left_out: names in the pickles that are no tensors, or a head that config.json ties (hostile).
        has_no_network: the kernel gave the process none; otherwise Python's own calls alone were refused.
    """

    files: tuple[str, ...]
    tensors: int
    total_bytes: int
    left_out: tuple[str, ...] = ()
    has_no_network: bool = False


class ConvertFailed(Value, frozen=True, kw_only=True, tag=True):
    """Nothing came of it; last.

    Attributes:
        error: the name of a class in engine.errors.
        message: what happened and why.
        hint: the next step.
    """

    error: str
    message: str
    hint: str = ""


AnyTold = ConvertProgress | Converted | ConvertFailed

encode = msgspec.json.encode
decode = msgspec.json.Decoder(AnyTold).decode
