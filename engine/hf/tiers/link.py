"""From RAM to the device: page-locked blocks and a copy stream on a GPU, plain copies on the CPU."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from typing import Any, Protocol

import torch

from engine.hf.tiers.schedule import Link

PORTABLE = 1
"""cudaHostRegisterPortable: page-locked for every GPU."""

_log = logging.getLogger(__name__)


class TensorLink(Link, Protocol):
    """A link that copies real blocks.

    Attributes:
        refused: blocks whose pages could not be locked.
    """

    refused: int

    def hold(self, layer: int, block: torch.Tensor) -> None:
        """Take a layer's block of RAM (uint8), filled."""

    def close(self) -> None:
        """Wait for what is under way, and let go of every block."""


class CpuLink:
    """Copies at once, within RAM: the same decisions and the same bytes, without a GPU."""

    refused = 0

    def __init__(self, buffers: Sequence[torch.Tensor]) -> None:
        """Take the buffers, uint8, each at least as long as the longest block."""
        self._buffers = buffers
        self._blocks: dict[int, torch.Tensor] = {}

    def hold(self, layer: int, block: torch.Tensor) -> None:
        """Take a layer's block."""
        self._blocks[layer] = block

    def copy(self, layer: int, buffer: int) -> None:
        """Copy now: nothing else runs beside it."""
        block = self._blocks[layer]
        self._buffers[buffer][: block.numel()].copy_(block)

    def wait(self, buffer: int) -> None:
        """Nothing is under way."""

    def release(self, buffer: int) -> None:
        """Nothing reads any more."""

    def close(self) -> None:
        """Let go of every block."""
        self._blocks.clear()


class CudaLink:
    """Copies page-locked blocks on a stream beside the one that computes; events order the two."""

    def __init__(self, buffers: Sequence[torch.Tensor]) -> None:
        """Take the buffers, uint8, on one GPU, each at least as long as the longest block."""
        self._buffers = buffers
        self._device = buffers[0].device
        self._copies = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        self._copies.wait_stream(torch.cuda.current_stream(self._device))
        self._copied = _events(len(buffers))
        self._released = _events(len(buffers))
        self._blocks: dict[int, torch.Tensor] = {}
        self._locked: list[torch.Tensor] = []
        self.refused = 0

    def hold(self, layer: int, block: torch.Tensor) -> None:
        """Take a layer's block and lock its pages.

        Where the driver refuses, the copies of this layer still are right, and slow.
        """
        self._blocks[layer] = block
        if _page_lock(block, self._device):
            self._locked.append(block)
        else:
            self.refused += 1
            _log.warning("The driver does not lock the pages of layer %d: it is copied slowly.", layer)

    def copy(self, layer: int, buffer: int) -> None:
        """Order a copy behind the buffer's last release."""
        block = self._blocks[layer]
        with torch.cuda.stream(self._copies):
            self._copies.wait_event(self._released[buffer])
            self._buffers[buffer][: block.numel()].copy_(block, non_blocking=True)
            self._copied[buffer].record(self._copies)

    def wait(self, buffer: int) -> None:
        """Let the computing stream wait for the buffer's last copy; the host goes on."""
        torch.cuda.current_stream(self._device).wait_event(self._copied[buffer])

    def release(self, buffer: int) -> None:
        """Mark where the computing stream is."""
        self._released[buffer].record(torch.cuda.current_stream(self._device))

    def close(self) -> None:
        """Wait for the GPU, unlock and let go of every block; a broken GPU keeps nothing locked for long."""
        with contextlib.suppress(RuntimeError):
            torch.cuda.synchronize(self._device)
        for block in self._locked:
            _driver().cudaHostUnregister(block.data_ptr())
        self._locked.clear()
        self._blocks.clear()


def link_to(buffers: Sequence[torch.Tensor]) -> TensorLink:
    """Return the link to where the buffers lie."""
    return CudaLink(buffers) if buffers[0].is_cuda else CpuLink(buffers)


def _events(count: int) -> list[torch.cuda.Event]:
    return [torch.cuda.Event() for _ in range(count)]  # type: ignore[no-untyped-call]  # likewise


def _driver() -> Any:  # noqa: ANN401 - torch leaves it unannotated
    return torch.cuda.cudart()  # type: ignore[no-untyped-call]  # likewise


def _page_lock(block: torch.Tensor, device: torch.device) -> bool:
    """Lock exactly these pages: pin_memory() would round up to a power of two."""
    failed = int(_driver().cudaHostRegister(block.data_ptr(), block.numel(), PORTABLE))
    if failed:
        with contextlib.suppress(RuntimeError):  # the refusal would be blamed on the next kernel
            torch.zeros(1, device=device)
    return not failed
