"""A sample of the weights themselves: numbers that are none, and files that are holes."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, NamedTuple

from engine.checkpoint.files import open_plain
from engine.checkpoint.tensors import DTYPE_BITS, StoredTensor

_ALL_ELEMENTS = 3_000_000
"""Looked at in all; a second of work."""
_EACH_ELEMENTS = 3_000
_SPOTS = 3
"""Places in a tensor: its beginning, its middle, its end."""


class _Layout(NamedTuple):
    """How to see that an element is no finite number.

    Attributes:
        code: of an array of its bits.
        mask: of the bits that are all set then.
    """

    code: str
    mask: int


_LAYOUTS = {
    "BF16": _Layout("H", 0x7F80),
    "F16": _Layout("H", 0x7C00),
    "F32": _Layout("I", 0x7F80_0000),
    "F64": _Layout("Q", 0x7FF0_0000_0000_0000),
    "F8_E4M3": _Layout("B", 0x7F),
    "F8_E5M2": _Layout("B", 0x7C),
}


class Sample(NamedTuple):
    """What was seen.

    Attributes:
        elements: looked at.
        broken: names of tensors with a NaN or an infinity (hostile).
        is_empty: there were elements, and every one of them is zero.
    """

    elements: int
    broken: tuple[str, ...]
    is_empty: bool


def sample_numbers(tensors: Iterable[StoredTensor]) -> Sample:
    """Look at a few thousand elements of each tensor of floating numbers.

    Raises:
        DamagedCheckpoint: a file cannot be read.
    """
    floats = [tensor for tensor in tensors if tensor.dtype in _LAYOUTS and tensor.bytes]
    each = max(_SPOTS, min(_EACH_ELEMENTS, _ALL_ELEMENTS // max(1, len(floats))))
    files: dict[Path, list[StoredTensor]] = {}
    for tensor in floats:
        files.setdefault(tensor.file, []).append(tensor)
    seen, broken, has_value = 0, [], False
    for path, stored in files.items():
        with open_plain(path) as file:
            for tensor in stored:
                bits = _read(file, tensor, each)
                seen += len(bits)
                has_value = has_value or any(bits)
                mask = _LAYOUTS[tensor.dtype].mask
                if any(value & mask == mask for value in bits):
                    broken.append(tensor.name)
    return Sample(seen, tuple(broken), is_empty=bool(seen) and not has_value)


def _read(file: BinaryIO, tensor: StoredTensor, elements: int) -> array[int]:
    """The bits of elements at the beginning, in the middle and at the end of a tensor."""
    size = DTYPE_BITS[tensor.dtype] // 8
    each = math.ceil(elements / _SPOTS)
    bits: array[int] = array(_LAYOUTS[tensor.dtype].code)
    last = max(0, tensor.elements - each)
    for start in sorted({0, last // 2, last}):
        file.seek(tensor.start + start * size)
        data = file.read(min(each, tensor.elements - start) * size)
        bits.frombytes(data[: len(data) - len(data) % size])
    return bits
