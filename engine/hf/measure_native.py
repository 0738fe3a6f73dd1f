"""How fast our own kernels decode on the CPU: weights by how they are stored, KV cache, one operation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch

from engine.hf import measure_linear
from engine.hf.measure_clock import timed, until, usual
from engine.hf.measure_linear import PackedLayers, copies_of
from engine.hf.native.library import FORMATS, Kernels, Kind, Room
from engine.hf.native.matrix import matrix_of
from engine.hf.native.program import Matrix, Program, scratch_width, splits_for

RUN_SECONDS = 0.1
MOST_RUNS = 12
HEADS, KV_HEADS, WIDTH, TOKENS = 32, 8, 64, 2048
SMALL_OPS = 1000


class NativeSpeed(NamedTuple):
    """What decoding takes.

    Attributes:
        bandwidth: weight bytes per second of one token, by storage ("bfloat16", "int8", "nf4").
        attention_bandwidth: KV bytes per second, by dtype.
        op_seconds: of one operation beside its bytes: all threads wait for each other.
    """

    bandwidth: dict[str, float]
    attention_bandwidth: dict[str, float]
    op_seconds: float


NO_KERNELS = NativeSpeed({}, {}, 0.0)


@torch.inference_mode()
def native_speed(kernels: Kernels, memory: torch.Tensor, layers: dict[str, PackedLayers]) -> NativeSpeed:
    """Measure everything that a decode program spends its time with.

    Args:
        kernels: to compute with.
        memory: bytes that plain weights may lie in, more than any cache holds.
        layers: packed ones, by kind.
    """
    bandwidth, attention = {}, {}
    for dtype in FORMATS:
        name = str(dtype).removeprefix("torch.")
        bandwidth[name] = _bandwidth(kernels, list(_plain(memory, dtype)))
        attention[name] = _attention_bandwidth(kernels, dtype, memory.nbytes)
    for kind, packed in layers.items():
        copies = copies_of(packed.large, memory.nbytes)
        found = [matrix for layer in copies if (matrix := matrix_of(layer, kernels)) is not None]
        if found:
            bandwidth[kind] = _bandwidth(kernels, found)
    return NativeSpeed(bandwidth, attention, _op_seconds(kernels))


def _plain(memory: torch.Tensor, dtype: torch.dtype) -> Iterable[Matrix]:
    rows, columns = measure_linear.LARGE
    elements = memory.view(dtype).fill_(0.01)
    for weights in elements[: elements.numel() // (rows * columns) * rows * columns].view(-1, rows, columns):
        yield Matrix(FORMATS[dtype], rows, columns, weights)


def _bandwidth(kernels: Kernels, matrices: list[Matrix]) -> float:
    """Weight bytes per second of one token that passes all matrices."""
    writer = Program(torch.bfloat16)
    source = writer.buffer("source", matrices[0].columns)
    result = writer.buffer("result", matrices[0].rows)
    for matrix in matrices:
        writer.linear(matrix, source, result)
    program = writer.finished()
    kernels.run(program)
    size = sum(matrix.weights.nbytes for matrix in matrices)
    return size / until(RUN_SECONDS, MOST_RUNS, lambda: kernels.run(program))


def _attention_bandwidth(kernels: Kernels, dtype: torch.dtype, size: int) -> float:
    """KV bytes per second of one token that attends to 2,048 others, layer after layer."""
    writer = Program(dtype)
    one = 2 * KV_HEADS * TOKENS * WIDTH * dtype.itemsize
    held = torch.full((max(2, size // one), 2, KV_HEADS, TOKENS, WIDTH), 0.5, dtype=dtype)
    queries, result = (writer.buffer(name, HEADS * WIDTH) for name in ("queries", "result"))
    splits = splits_for(KV_HEADS)
    shared = writer.buffer("scratch", scratch_width(HEADS, WIDTH, splits))
    for keys, values in held:
        room = Room(keys.data_ptr(), values.data_ptr(), TOKENS, TOKENS - 1)
        shape = {
            "format": FORMATS[dtype], "heads": HEADS, "kv_heads": KV_HEADS, "cache": room, "scratch": shared,
            "head_width": WIDTH, "value_width": WIDTH, "splits": splits, "scale": WIDTH**-0.5,
            "input": queries, "output": result,
        }  # fmt: skip
        writer.add(Kind.ATTEND, **shape)
        writer.add(Kind.JOIN, **shape)
    program = writer.finished()
    kernels.run(program)
    return held.nbytes / until(RUN_SECONDS, MOST_RUNS, lambda: kernels.run(program))


def _op_seconds(kernels: Kernels) -> float:
    """Seconds of one operation that computes next to nothing."""
    writer = Program(torch.float32)
    left, right, result = (writer.buffer(name, 16) for name in ("left", "right", "result"))
    for _ in range(SMALL_OPS):
        writer.add(Kind.ADD, columns=16, input=left, other=right, output=result)
    program = writer.finished()
    kernels.run(program)
    return usual([timed(lambda: kernels.run(program)) for _ in range(MOST_RUNS)]) / SMALL_OPS
