"""Linear layers for chunks of tokens, as short messages are, by a kernel of our own."""

from __future__ import annotations

from collections.abc import Callable

import torch

from engine.hf.native.library import MAX_TOKENS, Foreign, Format, Kernels, Product
from engine.hf.native.matrix import matrix_of
from engine.hf.native.program import Matrix

LEAST_TOKENS = MAX_TOKENS + 1
"""Fewer pass through the decode program."""
MOST_TOKENS = {Format.BFLOAT16: 32, Format.NF4_PACKED: 1 << 30}
"""With more, oneDNN is as fast; what is packed is unpacked for each of its products."""
LINE = 32
"""Columns come in multiples of as many."""
LONGEST_BLOCK = 256
LARGEST_ERROR = 0.02
"""Of the largest result: more than the rounding of bf16, which has eight bits."""


class ChunkLinear:
    """Stands in for a linear layer's forward; what it was not made for goes to the forward that was there."""

    def __init__(self, own: Callable[[torch.Tensor], torch.Tensor], matrix: Matrix, kernels: Kernels) -> None:
        """Keep what to compute with.

        Args:
            own: the forward that was there.
            matrix: the layer's weights, for which `is_served` holds.
            kernels: to compute with.
        """
        self._own = own
        self._matrix = matrix
        self._kernels = kernels
        self._tokens = range(LEAST_TOKENS, MOST_TOKENS[matrix.format] + 1)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return the layer's output for x [..., columns]."""
        right = x.dtype == torch.bfloat16 and x.device.type == "cpu"
        if not right or x.numel() // x.shape[-1] not in self._tokens or torch.is_grad_enabled():
            return self._own(x)
        return multiplied(self._kernels, self._matrix, x)


def multiplied(kernels: Kernels, matrix: Matrix, x: torch.Tensor) -> torch.Tensor:
    """Return a matrix that is served times the bf16 numbers x [..., columns].

    Sums are taken in fp32, in another order than torch's, and rounded once.
    """
    x = x.contiguous()
    output = x.new_empty(*x.shape[:-1], matrix.rows)
    scales, bias = (None if part is None else part.data_ptr() for part in (matrix.scales, matrix.bias))
    product = Product(
        format=matrix.format, rows=matrix.rows, columns=matrix.columns, tokens=x.numel() // matrix.columns,
        block=matrix.block, weights=matrix.weights.data_ptr(), scales=scales, bias=bias, input=x.data_ptr(),
        output=output.data_ptr(),
    )  # fmt: skip
    kernels.multiply(product)
    return output


def is_served(matrix: Matrix, kernels: Kernels) -> bool:
    """Whether `multiplied` is made for a matrix."""
    if not kernels.multiplies_chunks or matrix.format not in MOST_TOKENS or matrix.columns % LINE:
        return False
    parts = [part for part in (matrix.scales, matrix.bias) if part is not None]
    whole = matrix.block % LINE == 0 and matrix.block <= LONGEST_BLOCK
    return whole and all(part.dtype == torch.bfloat16 and part.is_contiguous() for part in parts)


def use_products(model: Foreign, kernels: Kernels) -> None:
    """Let the linear layers of a model compute chunks by our kernel, where it serves them.

    Before packed ones are, the first of them is compared with its own forward: how they are packed is
    another library's choice.
    """
    agrees: dict[Format, bool] = {Format.BFLOAT16: True}
    for module in model.modules():
        matrix = matrix_of(module, kernels)
        if matrix is None or not is_served(matrix, kernels) or not _computes_bf16(module):
            continue
        if matrix.format not in agrees:
            agrees[matrix.format] = _agree(module, matrix, kernels)
        if agrees[matrix.format]:
            module.forward = ChunkLinear(module.forward, matrix, kernels)


def _computes_bf16(module: Foreign) -> bool:
    """Layers of bitsandbytes may compute in another dtype than they are given."""
    return getattr(module, "compute_dtype", None) in {None, torch.bfloat16}


@torch.inference_mode()
def _agree(module: Foreign, matrix: Matrix, kernels: Kernels) -> bool:
    """Whether a layer's own forward computes the same."""
    x = torch.arange(LEAST_TOKENS * matrix.columns).sin().view(LEAST_TOKENS, -1).to(torch.bfloat16)
    ours, own = multiplied(kernels, matrix, x).float(), module.forward(x).float()
    return bool((ours - own).abs().max() <= LARGEST_ERROR * own.abs().max())
