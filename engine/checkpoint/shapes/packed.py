"""How a checkpoint that is stored quantized lays a matrix out: fp8, mxfp4, GPTQ and AWQ."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from engine.checkpoint.config import ModelConfig
from engine.checkpoint.fields import Fields
from engine.checkpoint.shapes.words import Shape

Entry = tuple[str, str, Shape]
"""Name, dtype, shape."""
_ROUTER = re.compile(r"(^|\.)(gate|router|wg)\.weight$")
_EXPERT_STACK = re.compile(r"(^|\.)experts\.(gate_up|down)_proj$")
_MATRIX_AXES = 2
_WORD_BITS = 32
_MXFP4_BLOCK = 32
_MXFP4_BLOCK_BYTES = 16
_FP8_BLOCK = 128


class Packing(NamedTuple):
    """How wide packed elements are.

    Attributes:
        bits: of one element.
        group: elements of a row that share a scale; 0 for the whole row.
    """

    bits: int = 4
    group: int = 128


def packed_entries(
    shapes: Iterable[tuple[str, Shape]], dtype: str, method: str, packing: Packing
) -> Iterator[Entry]:
    """The tensors that are stored for those of one layer; what the method leaves alone stays as it is.

    Args:
        shapes: name and shape of each, unpacked.
        dtype: of what stays.
        method: of quantization; empty, or one that is not known here, leaves everything.
        packing: how wide packed elements are.
    """
    pack = _METHODS.get(method)
    for name, shape in shapes:
        own = tuple(pack(name, shape, packing)) if pack else ()
        yield from own or ((name, dtype, shape),)


def is_known_packing(method: str) -> bool:
    """The closed forms know how this method stores a matrix."""
    return method in _METHODS


def packing_of(fields: Fields, model: ModelConfig) -> Packing:
    """Read bits and group from config.json's quantization_config.

    Raises:
        DamagedCheckpoint: a field says what cannot be.
    """
    said = fields.part("quantization_config")
    group = said.integer("group_size", "q_group_size", low=-1, high=2**20, default=Packing().group)
    return Packing(model.quantization_bits or Packing().bits, max(group, 0))


def _is_linear(name: str, shape: Shape) -> bool:
    return len(shape) == _MATRIX_AXES and name.endswith(".weight") and not _ROUTER.search(name)


def _fp8(name: str, shape: Shape, _packing: Packing) -> Iterator[Entry]:
    if _is_linear(name, shape):
        yield name, "F8_E4M3", shape
        yield f"{name}_scale_inv", "F32", (_parts(shape[0], _FP8_BLOCK), _parts(shape[1], _FP8_BLOCK))


def _mxfp4(name: str, shape: Shape, _packing: Packing) -> Iterator[Entry]:
    if _EXPERT_STACK.search(name):
        experts, columns, rows = shape
        blocks = (experts, rows, _parts(columns, _MXFP4_BLOCK))
        yield f"{name}_blocks", "U8", (*blocks, _MXFP4_BLOCK_BYTES)
        yield f"{name}_scales", "U8", blocks


def _gptq(name: str, shape: Shape, packing: Packing) -> Iterator[Entry]:
    if _is_linear(name, shape):
        (rows, columns), base = shape, name.removesuffix("weight")
        yield f"{base}qweight", "I32", (_parts(columns * packing.bits, _WORD_BITS), rows)
        yield from _scales(base, shape, packing)
        yield f"{base}g_idx", "I32", (columns,)


def _awq(name: str, shape: Shape, packing: Packing) -> Iterator[Entry]:
    if _is_linear(name, shape):
        (rows, columns), base = shape, name.removesuffix("weight")
        yield f"{base}qweight", "I32", (columns, _parts(rows * packing.bits, _WORD_BITS))
        yield from _scales(base, shape, packing)


def _scales(base: str, shape: Shape, packing: Packing) -> Iterator[Entry]:
    rows, columns = shape
    groups = _parts(columns, packing.group or columns)
    yield f"{base}qzeros", "I32", (groups, _parts(rows * packing.bits, _WORD_BITS))
    yield f"{base}scales", "F16", (groups, rows)


def _parts(length: int, part: int) -> int:
    return -(-length // part)


_METHODS: dict[str, Callable[[str, Shape, Packing], Iterator[Entry]]] = {
    "fp8": _fp8,
    "mxfp4": _mxfp4,
    "gptq": _gptq,
    "awq": _awq,
}
