"""One streamed layer's parameters, bound to RAM while it rests and to a device buffer while it computes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch.nn import Module

from engine.hf.tiers.blob import Layout, fill, views


class _Constant(NamedTuple):
    """A registered buffer of some module of the layer, such as frequencies or a mask."""

    owner: Module
    name: str
    resting: torch.Tensor
    ready: torch.Tensor


class Seat:
    """The tensors of one layer and every place that they are seen in."""

    def __init__(
        self, layer: Module, layout: Layout, block: torch.Tensor, buffers: Sequence[torch.Tensor]
    ) -> None:
        """Move a layer's parameters into a block of RAM.

        Args:
            layer: of plain parameters.
            layout: of `layer.parameters()`.
            block: uint8, in RAM.
            buffers: uint8, on the device where the layer computes.
        """
        self._parameters = list(layer.parameters())
        fill(block, layout, self._parameters)
        self._resting = views(block, layout)
        self._ready = [views(buffer, layout) for buffer in buffers]
        self._constants = [
            _Constant(owner, name, tensor, tensor.to(buffers[0].device))
            for owner in layer.modules()
            for name, tensor in owner.named_buffers(recurse=False)
        ]
        self.leave()

    def enter(self, buffer: int) -> None:
        """Show the layer its weights in a buffer."""
        self._show(self._ready[buffer])
        for constant in self._constants:
            setattr(constant.owner, constant.name, constant.ready)

    def leave(self) -> None:
        """Show its weights in RAM."""
        self._show(self._resting)
        for constant in self._constants:
            setattr(constant.owner, constant.name, constant.resting)

    def clear(self) -> None:
        """Let go of the weights wherever they are."""
        self._show(torch.empty(0, dtype=view.dtype) for view in self._resting)
        self._resting = ()
        self._ready.clear()
        self._constants.clear()

    def _show(self, tensors: Iterable[torch.Tensor]) -> None:
        for parameter, tensor in zip(self._parameters, tensors, strict=True):
            parameter.data = tensor
