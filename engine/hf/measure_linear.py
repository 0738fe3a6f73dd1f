"""How fast one token and a chunk of tokens pass linear layers on the CPU, by how weights are stored."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from functools import partial
from operator import itemgetter
from typing import NamedTuple

import torch
from torch.nn import functional

from engine.hf.measure_clock import timed, until, usual, within
from engine.hf.native.library import Kernels
from engine.hf.native.matrix import matrix_of
from engine.hf.native.products import is_served, multiplied

DTYPES = (torch.bfloat16, torch.float16, torch.float32)
CYCLED_BYTES = 200 << 20
"""More than any cache of the CPU holds."""
PACKED_BYTES = 64 << 20
SMALL, LARGE = (1024, 1024), (4096, 1024)
CHUNK, FEW = 256, 16
PACKINGS = 3
CHUNK_SECONDS = 0.1
WARM_UP_SECONDS, TOKEN_SECONDS = 0.05, 0.1

FASTEST = 1e12
"""Bytes per second; a difference of times that says more is noise."""
PLAIN = torch.bfloat16

Layer = Callable[[torch.Tensor], torch.Tensor]
Packer = Callable[[torch.Tensor], torch.nn.Module]


class Speed(NamedTuple):
    """What a linear layer of one storage takes.

    Attributes:
        bandwidth: weight bytes per second of one token.
        seconds: of one layer, beside its bytes.
        flops: of a chunk.
    """

    bandwidth: float
    seconds: float
    flops: float


def name_of(dtype: torch.dtype) -> str:
    """What the limits call a dtype."""
    return str(dtype).removeprefix("torch.")


@torch.inference_mode()
def plain_speed(dtype: torch.dtype, memory: torch.Tensor, *, columns: bool = False) -> Speed:
    """Measure layers of one dtype, with weights that no cache holds.

    Args:
        dtype: of weights and inputs.
        memory: bytes that the weights may lie in.
        columns: the matrices lie the other way round.
    """
    elements = memory.view(dtype).fill_(0.01)

    def layers(shape: tuple[int, int]) -> list[Layer]:
        size = shape[0] * shape[1]
        weights = (elements[start : start + size] for start in range(0, elements.numel() - size + 1, size))
        return [_layer(weight, shape, columns=columns) for weight in weights]

    token = [_token_seconds(layers(shape), shape[1], dtype) for shape in (SMALL, LARGE)]
    return _fitted(token, dtype.itemsize, _chunk_seconds(layers(LARGE)[0], LARGE[1], dtype))


def _layer(weight: torch.Tensor, shape: tuple[int, int], *, columns: bool) -> Layer:
    if columns:
        lying, bias = weight.view(shape[1], shape[0]), weight.new_zeros(shape[0])
        return lambda tokens: torch.addmm(bias, tokens, lying)
    standing = weight.view(shape)
    return lambda tokens: functional.linear(tokens, standing)


def _token_seconds(layers: Sequence[Layer], width: int, dtype: torch.dtype) -> float:
    """Seconds of one token through one layer, each from memory; the first round only warms up."""
    token = torch.full((1, width), 0.5, dtype=dtype)
    calls = [partial(layer, token) for layer in layers]
    within(WARM_UP_SECONDS, calls)
    return usual(within(TOKEN_SECONDS, calls))


def _chunk_seconds(layer: Layer, width: int, dtype: torch.dtype) -> float:
    """Seconds that a chunk takes, from a few tokens where a whole one would take too long."""
    few = torch.full((FEW, width), 0.5, dtype=dtype)
    layer(few)
    slow = timed(lambda: layer(few)) * CHUNK / FEW
    if slow > CHUNK_SECONDS:
        return slow
    tokens = few.repeat(CHUNK // FEW, 1)
    layer(tokens)
    return until(CHUNK_SECONDS, 8, lambda: layer(tokens))


def _fitted(token: list[float], itemsize: float, chunk: float) -> Speed:
    """A line through a small and a large layer: seconds per layer, and bytes per second."""
    small, large = (itemsize * rows * width for rows, width in (SMALL, LARGE))
    bandwidth = (large - small) / max(token[1] - token[0], large / FASTEST)
    seconds = max(0.0, token[0] - small / bandwidth)
    return Speed(bandwidth, seconds, 2 * CHUNK * LARGE[0] * LARGE[1] / chunk)


class PackedLayers(NamedTuple):
    """A small and a large layer that bitsandbytes packed."""

    small: torch.nn.Module
    large: torch.nn.Module


@torch.inference_mode()
def packed_layers(kind: str) -> tuple[PackedLayers, float]:
    """Pack layers; return them, and plain bytes per second that are packed on load.

    Args:
        kind: "int8" or "nf4".
    """
    pack = PACKERS[kind]
    small, _ = packed(pack, SMALL)
    large, rate = max((packed(pack, LARGE) for _ in range(PACKINGS)), key=itemgetter(1))
    return PackedLayers(small, large), rate


@torch.inference_mode()
def packed_speed(layers: PackedLayers, kernels: Kernels | None = None) -> Speed:
    """Measure packed layers, each copied until no cache holds them all.

    Args:
        layers: of one kind.
        kernels: compute chunks where they serve the kind; None leaves them to bitsandbytes.
    """
    token = [
        _token_seconds(copies_of(layer), shape[1], PLAIN)
        for layer, shape in ((layers.small, SMALL), (layers.large, LARGE))
    ]
    itemsize = _bytes_of(layers.large) / (LARGE[0] * LARGE[1])
    return _fitted(token, itemsize, _chunk_seconds(_of_chunks(layers.large, kernels), LARGE[1], PLAIN))


def _of_chunks(layer: torch.nn.Module, kernels: Kernels | None) -> Layer:
    matrix = matrix_of(layer, kernels) if kernels else None
    if kernels is None or matrix is None or not is_served(matrix, kernels):
        return layer
    return partial(multiplied, kernels, matrix)


def packed(pack: Packer, shape: tuple[int, int]) -> tuple[torch.nn.Module, float]:
    """Pack one layer; return it, arranged by a first use, and plain bytes per second."""
    plain = torch.randn(shape).mul_(0.02).to(PLAIN)
    started = time.perf_counter()
    layer = pack(plain).eval()
    layer(plain[:1])
    return layer, plain.nbytes / (time.perf_counter() - started)


def copies_of(layer: torch.nn.Module, size: int | None = None) -> list[torch.nn.Module]:
    """As many of a layer as take so many bytes; PACKED_BYTES where nothing is said."""
    count = int((size or PACKED_BYTES) / _bytes_of(layer))
    return [copy.deepcopy(layer) for _ in range(max(2, count))]


def _bytes_of(layer: torch.nn.Module) -> int:
    return sum(weight.nbytes for weight in layer.parameters())


def _int8(plain: torch.Tensor) -> torch.nn.Module:
    """Pack as transformers does on load."""
    from bitsandbytes import nn as packed_layers  # an engine that never packs does not load it

    layer = packed_layers.Linear8bitLt(
        plain.shape[1], plain.shape[0], bias=False, has_fp16_weights=False, threshold=6.0
    )
    layer.weight = packed_layers.Int8Params(plain, requires_grad=False, has_fp16_weights=False).to("cpu")
    made: torch.nn.Module = layer
    return made


def _nf4(plain: torch.Tensor) -> torch.nn.Module:
    """Pack as transformers does on load."""
    from bitsandbytes import nn as packed_layers  # likewise

    layer = packed_layers.Linear4bit(
        plain.shape[1],
        plain.shape[0],
        bias=False,
        compute_dtype=PLAIN,
        compress_statistics=False,
        quant_type="nf4",
    )
    layer.weight = packed_layers.Params4bit(
        plain, requires_grad=False, compress_statistics=False, quant_type="nf4", module=layer
    ).to("cpu")
    made: torch.nn.Module = layer
    return made


PACKERS: dict[str, Packer] = {"int8": _int8, "nf4": _nf4}
