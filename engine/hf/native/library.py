"""The compiled kernels as Python sees them: the structures of operation.h, and the calls."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from enum import IntEnum, IntFlag
from itertools import count
from pathlib import Path
from typing import Any

import torch

Foreign = Any
"""A module or value of another library, whose attributes are looked up when it is met."""

NF4_BLOCK = 64
"""Elements that share a scale."""
MAX_TOKENS = 8
LANES = 16
PACKED_NF4 = 1
FAST_CHUNKS = 2
FAST_PRODUCTS = 4


class Format(IntEnum):
    """What numbers are stored as."""

    FLOAT32 = 0
    FLOAT16 = 1
    BFLOAT16 = 2
    INT8 = 3
    NF4 = 4
    NF4_PACKED = 5


class Kind(IntEnum):
    """What an operation does; operation.h says which fields each one reads."""

    EMBED = 0
    RMS_NORM = 1
    LAYER_NORM = 2
    LINEAR = 3
    ROTATE = 4
    STORE = 5
    ATTEND = 6
    JOIN = 7
    ACTIVATE = 8
    ADD = 9
    ROUTE = 10
    MIX = 11


class Flag(IntFlag):
    """Variants of an operation."""

    GOES_ON = 1
    ONE_PLUS = 2
    INTERLEAVED = 4
    NORMALIZED = 8


FORMATS = {
    torch.float32: Format.FLOAT32,
    torch.float16: Format.FLOAT16,
    torch.bfloat16: Format.BFLOAT16,
}

_INTS = (
    *("kind", "flags", "format", "rounding", "parameters", "columns", "rows"),
    *("heads", "kv_heads", "head_width", "value_width", "window", "splits"),
    *("activation", "choices", "slot", "block"),
)
_CHUNK_INTS = (
    *("format", "tokens", "seen", "heads", "kv_heads"),
    *("head_width", "value_width", "threads"),
)
_CHUNK_STRIDES = (
    *("query_head", "query_token", "key_head", "key_token"),
    *("value_head", "value_token", "mask_token"),
)
_RUNS = count(1)
"""Numbers of runs, never the same twice: threads keep what they have prepared for one of them."""
_POINTERS = ("input", "other", "residual", "output", "scratch", "weights", "scales", "bias", "selected")


class Room(ctypes.Structure):
    """Keys and values [kv_heads, capacity, width] of one layer, `length` tokens of them in use."""

    _fields_ = (
        ("keys", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
        ("capacity", ctypes.c_int32),
        ("length", ctypes.c_int32),
    )


class Operation(ctypes.Structure):
    """One operation of a program."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in _INTS),
        ("scale", ctypes.c_float),
        ("softcap", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in _POINTERS),
        ("expert_bytes", ctypes.c_int64),
        ("cache", ctypes.POINTER(Room)),
        ("cosines", ctypes.c_void_p),
        ("sines", ctypes.c_void_p),
    )


class Step(ctypes.Structure):
    """What changes from call to call."""

    _fields_ = (
        ("token_ids", ctypes.POINTER(ctypes.c_int32)),
        ("tokens", ctypes.c_int32),
        ("position", ctypes.c_int32),
        ("threads", ctypes.c_int32),
        ("cancelled", ctypes.POINTER(ctypes.c_int32)),
        ("run", ctypes.c_int64),
    )


_PACK_ARGUMENTS = (
    ctypes.c_void_p,
    ctypes.c_int32,
    ctypes.c_int64,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_int32,
)


_ARRANGE_ARGUMENTS = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int32)


class Chunk(ctypes.Structure):
    """Attention of a chunk of new tokens in one layer; chunk.h says what the fields mean."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in _CHUNK_INTS),
        ("scale", ctypes.c_float),
        *((name, ctypes.c_int64) for name in _CHUNK_STRIDES),
        *((name, ctypes.c_void_p) for name in ("queries", "keys", "values", "mask", "output")),
    )


class Product(ctypes.Structure):
    """A matrix times some dozens of tokens; product.h says what the fields mean."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("format", "rows", "columns", "tokens", "block", "threads")),
        *((name, ctypes.c_void_p) for name in ("weights", "scales", "bias", "input", "output")),
    )


_STRUCTURES = (Operation, Room, Step, Chunk, Product)


class Kernels:
    """The compiled kernels; one thread at a time.

    Attributes:
        name: stands for their source, compiler and processor.
        packs_nf4: computes with nf4 weights as bitsandbytes packs them for CPUs.
        attends_to_chunks: faster than torch; with AVX2 alone it is five times slower.
        multiplies_chunks: has products of matrices with some dozens of tokens.
    """

    def __init__(self, library: Path) -> None:
        """Load a library.

        Raises:
            OSError: it cannot be loaded.
            AttributeError: it is not ours, or of another version.
        """
        loaded = ctypes.CDLL(str(library))
        sizes = [loaded.vramble_sizes(which) for which in range(len(_STRUCTURES))]
        if sizes != list(map(ctypes.sizeof, _STRUCTURES)):
            raise OSError(f"{library} was built from other structures: {sizes}")
        self._run = loaded.vramble_run
        self._run.argtypes = [ctypes.c_void_p, ctypes.c_int32, ctypes.c_void_p]
        self._attend = loaded.vramble_attend
        self._attend.argtypes = [ctypes.c_void_p]
        self._attend.restype = None
        self._multiply = loaded.vramble_multiply
        self._multiply.argtypes = [ctypes.c_void_p]
        self._multiply.restype = None
        self._read = loaded.vramble_read
        self._read.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32]
        self._read.restype = ctypes.c_float
        self._pack_nf4 = loaded.vramble_pack_nf4
        self._pack_nf4.argtypes = _PACK_ARGUMENTS
        self._arrange_nf4 = loaded.vramble_arrange_nf4
        self._arrange_nf4.argtypes = _ARRANGE_ARGUMENTS
        self.name = library.name
        self.packs_nf4 = bool(loaded.vramble_abilities() & PACKED_NF4)
        self.multiplies_chunks = bool(loaded.vramble_abilities() & FAST_PRODUCTS)
        self.attends_to_chunks = bool(loaded.vramble_abilities() & FAST_CHUNKS)
        self._cancelled = ctypes.c_int32(0)
        self._ids = (ctypes.c_int32 * MAX_TOKENS)()
        self._step = Step(self._ids, 0, 0, 1, ctypes.pointer(self._cancelled), 0)

    def run(
        self, program: ctypes.Array[Operation], token_ids: Sequence[int] = (0,), position: int = 0
    ) -> bool:
        """Run a program.

        Args:
            program: operations; all pointers in them must live.
            token_ids: 1 to 8 tokens.
            position: of the first of them.

        Returns:
            False when it was cancelled on the way.
        """
        step = self._step
        self._ids[: len(token_ids)] = list(token_ids)
        step.tokens = len(token_ids)
        step.position = position
        step.threads = torch.get_num_threads()
        step.run = next(_RUNS)
        return not self._run(program, len(program), ctypes.byref(step))

    def attend(self, chunk: Chunk) -> None:
        """Attend for a chunk of new tokens; all pointers in it must live."""
        chunk.threads = torch.get_num_threads()
        self._attend(ctypes.byref(chunk))

    def multiply(self, product: Product) -> None:
        """Multiply a matrix of bf16 or packed nf4 with a chunk; all pointers in it must live."""
        product.threads = torch.get_num_threads()
        self._multiply(ctypes.byref(product))

    def cancel(self, *, wanted: bool = True) -> None:
        """Stop the run under way before its next operation, or (wanted=False) allow runs again.

        Any thread may call this.
        """
        self._cancelled.value = int(wanted)

    def pack_nf4(self, weights: torch.Tensor, bounds: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pack contiguous weights as nf4.

        Args:
            weights: of a type in FORMATS; a multiple of 64 of them.
            bounds: the 15 midpoints between the values, ascending, float32.

        Returns:
            Two to a byte [elements / 2], and the largest magnitude of each 64 [elements / 64]: NaN where one
            of them is not finite.
        """
        blocks = weights.numel() // NF4_BLOCK
        packed = torch.empty(blocks * NF4_BLOCK // 2, dtype=torch.uint8)
        largest = torch.empty(blocks, dtype=torch.float32)
        self._pack_nf4(
            weights.data_ptr(), FORMATS[weights.dtype], blocks, bounds.data_ptr(), packed.data_ptr(),
            largest.data_ptr(), torch.get_num_threads(),
        )  # fmt: skip
        return packed, largest

    def arrange_nf4(self, packed: torch.Tensor) -> torch.Tensor:
        """Return contiguous nf4 rows [rows, columns / 2] as bitsandbytes computes with them on CPUs.

        Args:
            packed: of a multiple of 32 rows.
        """
        arranged = torch.empty_like(packed)
        self._arrange_nf4(packed.data_ptr(), *packed.shape, arranged.data_ptr(), torch.get_num_threads())
        return arranged

    def read(self, tensor: torch.Tensor) -> None:
        """Read a contiguous tensor with all threads as fast as the memory gives it."""
        self._read(tensor.data_ptr(), tensor.nbytes, torch.get_num_threads())
