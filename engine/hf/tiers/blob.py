"""One layer's parameters side by side in one block of memory, and views that bring them back."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch

ALIGNMENT = 256


class Slot(NamedTuple):
    """Where one tensor lies in a block.

    Attributes:
        offset: of its first byte, a multiple of ALIGNMENT.
        nbytes: it takes.
        shape: of the tensor, contiguous.
        dtype: of the tensor.
    """

    offset: int
    nbytes: int
    shape: torch.Size
    dtype: torch.dtype


class Layout(NamedTuple):
    """Where each of a layer's tensors lies.

    Attributes:
        slots: in the order of the tensors.
        nbytes: of the whole block.
    """

    slots: tuple[Slot, ...]
    nbytes: int


def layout_of(tensors: Iterable[torch.Tensor]) -> Layout:
    """Lay contiguous tensors side by side, each where the widest loads of a device may begin."""
    slots, offset = [], 0
    for tensor in tensors:
        slots.append(Slot(offset, tensor.nbytes, tensor.shape, tensor.dtype))
        offset += -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
    return Layout(tuple(slots), offset)


def host_block(nbytes: int) -> torch.Tensor:
    """Return zeroed RAM of exactly so many bytes, on pages of its own, given back when the last view goes."""
    pages = mmap.mmap(-1, max(nbytes, 1))
    with contextlib.suppress(OSError):  # a kernel without huge pages
        pages.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(pages, dtype=torch.uint8)[:nbytes]


def views(block: torch.Tensor, layout: Layout) -> tuple[torch.Tensor, ...]:
    """Return a block's tensors.

    Args:
        block: uint8, at least `layout.nbytes` long.
        layout: of what lies in it.
    """
    return tuple(
        block[slot.offset : slot.offset + slot.nbytes].view(slot.dtype).view(slot.shape)
        for slot in layout.slots
    )


def fill(block: torch.Tensor, layout: Layout, tensors: Sequence[torch.Tensor]) -> None:
    """Copy tensors to their places."""
    for place, tensor in zip(views(block, layout), tensors, strict=True):
        place.copy_(tensor)
