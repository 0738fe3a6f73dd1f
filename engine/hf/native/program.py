"""Write decode programs: arrays of operations with everything that they point to kept alive."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from torch import nn

from engine.hf.native.library import FORMATS, LANES, MAX_TOKENS, Flag, Foreign, Format, Kind, Operation, Room


@dataclass(frozen=True)
class Matrix:
    """The weights of a linear layer as they lie in memory.

    Attributes:
        format: of the weights.
        rows: output features.
        columns: input features.
        weights: contiguous, on the CPU.
        scales: of quantized weights.
        bias: [rows], or None.
        block: numbers that share a scale.
    """

    format: Format
    rows: int
    columns: int
    weights: torch.Tensor
    scales: torch.Tensor | None = None
    bias: torch.Tensor | None = None
    block: int = 0

    def part(self, first: int, rows: int) -> Matrix:
        """Return some of the rows; of unquantized weights only."""
        bias = None if self.bias is None else self.bias[first : first + rows]
        return Matrix(self.format, rows, self.columns, self.weights[first : first + rows], None, bias)


class Buffers:
    """Activations, fp32: one buffer for each purpose and width, however many layers use it in turn."""

    def __init__(self) -> None:
        """Start with none."""
        self._made: dict[tuple[str, int], torch.Tensor] = {}

    def buffer(self, purpose: str, width: int) -> torch.Tensor:
        """Return the buffer [MAX_TOKENS, width] for a purpose."""
        if (purpose, width) not in self._made:
            with torch.inference_mode(mode=False):  # so that it can be written to outside of it, too
                self._made[purpose, width] = torch.zeros(MAX_TOKENS, width)
        return self._made[purpose, width]


class Program:
    """Operations in the order they run; `finished` gives what Kernels.run takes."""

    def __init__(self, dtype: torch.dtype, buffers: Buffers | None = None) -> None:
        """Start empty.

        Args:
            dtype: the model's: what results are rounded to, and what the cache holds.
            buffers: shared with programs that never run at the same time; None for its own.
        """
        self.dtype = dtype
        self.buffer = (buffers or Buffers()).buffer
        self._operations: list[Operation] = []
        self._kept: list[object] = []

    def add(self, kind: Kind, **fields: Foreign) -> Operation:
        """Append one operation.

        Args:
            kind: what it does.
            fields: of Operation; tensors stand for their addresses and are kept alive.
        """
        operation = Operation(kind=kind, rounding=FORMATS[self.dtype])
        for name, value in fields.items():
            setattr(operation, name, self._address(value))
        self._operations.append(operation)
        return operation

    def linear(
        self,
        matrix: Matrix,
        source: torch.Tensor,
        result: torch.Tensor,
        residual: torch.Tensor | None = None,
        **fields: Foreign,
    ) -> Operation:
        """Append result = residual + matrix source."""
        parameters = FORMATS[matrix.bias.dtype] if matrix.bias is not None else Format.FLOAT32
        return self.add(
            Kind.LINEAR,
            format=matrix.format, rows=matrix.rows, columns=matrix.columns, block=matrix.block,
            weights=matrix.weights, scales=matrix.scales, bias=matrix.bias, parameters=parameters,
            input=source, output=result, residual=residual, **fields,
        )  # fmt: skip

    def norm(
        self, norm: Foreign, source: torch.Tensor, result: torch.Tensor, *, groups: int = 1, **fields: Foreign
    ) -> None:
        """Append a norm over each of `groups` equal parts of the source."""
        weight = getattr(norm, "weight", None)
        bias = getattr(norm, "bias", None)
        epsilon = getattr(norm, "variance_epsilon", getattr(norm, "eps", 0.0))
        fields["flags"] = fields.get("flags", 0) | (Flag.ONE_PLUS if adds_one(norm) else 0)
        self.add(
            Kind.LAYER_NORM if isinstance(norm, nn.LayerNorm) else Kind.RMS_NORM,
            columns=source.shape[-1] // groups, rows=groups, weights=weight, bias=bias,
            parameters=FORMATS[weight.dtype] if weight is not None else 0,
            scale=epsilon, input=source, output=result, **fields,
        )  # fmt: skip

    def finished(self) -> ctypes.Array[Operation]:
        """Return the program; it lives as long as this object."""
        return (Operation * len(self._operations))(*self._operations)

    def _address(self, value: Foreign) -> Foreign:
        if isinstance(value, torch.Tensor):
            self._kept.append(value)
            return value.data_ptr()
        if isinstance(value, Room):
            self._kept.append(value)
            return ctypes.pointer(value)
        return value


def scratch_width(heads: int, value_width: int, splits: int) -> int:
    """Return what a token's partial results of attention take."""
    return splits * heads * (LANES + (value_width + LANES - 1) // LANES * LANES)


def splits_for(kv_heads: int) -> int:
    """Return into how many stretches the cache may be cut, so that all threads have work."""
    return max(1, -(-2 * torch.get_num_threads() // kv_heads))


def adds_one(norm: Foreign) -> bool:
    """Gemma's norms multiply by 1 + weight."""
    return type(norm).__name__.startswith("Gemma")
