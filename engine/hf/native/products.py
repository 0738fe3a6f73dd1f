"""Linear layers of bf16 for chunks of a few dozen tokens, as short messages are, by a kernel of our own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from engine.hf.native.library import LANES, MAX_TOKENS, MOST_PRODUCT_TOKENS, Foreign, Kernels, Product

CHUNKS = range(MAX_TOKENS + 1, MOST_PRODUCT_TOKENS + 1)
"""Tokens that are served: fewer pass through the decode program, with more oneDNN is as fast."""


class ChunkLinear:
    """Stands in for a linear layer's forward; what it was not made for goes to the forward that was there."""

    def __init__(self, module: nn.Linear, kernels: Kernels) -> None:
        """Keep what to compute with."""
        self._own: Callable[[torch.Tensor], torch.Tensor] = module.forward
        self._module = module
        self._kernels = kernels

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return the layer's output for x [..., columns]."""
        served = x.numel() // x.shape[-1] in CHUNKS and x.dtype == torch.bfloat16 and x.device.type == "cpu"
        if not served or torch.is_grad_enabled():
            return self._own(x)
        return multiplied(self._kernels, self._module, x)


def multiplied(kernels: Kernels, module: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    """Return what a layer that is served makes of x [..., columns], of as many tokens as CHUNKS has.

    Sums are taken in fp32, in another order than torch's, and rounded once.
    """
    x = x.contiguous()
    rows, columns = module.weight.shape
    output = x.new_empty(*x.shape[:-1], rows)
    bias = None if module.bias is None else module.bias.data_ptr()
    product = Product(
        rows=rows, columns=columns, tokens=x.numel() // columns, weights=module.weight.data_ptr(), bias=bias,
        input=x.data_ptr(), output=output.data_ptr(),
    )  # fmt: skip
    kernels.multiply(product)
    return output


def is_served(module: Foreign, kernels: Kernels) -> bool:
    """Whether a module is a linear layer that `multiplied` is made for: of bf16 in RAM, in whole vectors."""
    if type(module) is not nn.Linear or not kernels.multiplies_chunks:
        return False
    tensors = [tensor for tensor in (module.weight, module.bias) if tensor is not None]
    right = all(tensor.dtype == torch.bfloat16 and tensor.device.type == "cpu" for tensor in tensors)
    return right and module.weight.is_contiguous() and not module.weight.shape[1] % (2 * LANES)


def use_products(model: Foreign, kernels: Kernels) -> None:
    """Let the linear layers of a model compute short chunks by our kernel, where it serves them."""
    for module in model.modules():
        if is_served(module, kernels):
            module.forward = ChunkLinear(module, kernels)
