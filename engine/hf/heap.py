"""Memory that was freed and is still kept for later: the C library's heap, and mapped pages nobody needs."""

from __future__ import annotations

import ctypes
import resource
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from engine.heap import GROWTH_BYTES
from engine.hf.mapped import mapped_regions
from engine.hf.protocols import CausalModel

PAGE = resource.getpagesize()
STATM = Path("/proc/self/statm")
_DONT_NEED = 4
"""MADV_DONTNEED of Linux: the pages leave this process; the file's stay cached and come back when touched."""

_libc = ctypes.CDLL(None)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
Span = tuple[int, int]


def trim_heap() -> None:
    """Return free pages between what is still in use to the operating system.

    glibc does not find a freed block again for an aligned one of the same size, which every tensor is,
    unless its neighbours are free, too: one chunk of prefill leaves several times what is alive.
    """
    _libc.malloc_trim(0)


class Heap:
    """Notices how far this process's own memory has grown, and trims the heap before gaps add up."""

    def __init__(self, layers: Sequence[torch.nn.Module] = ()) -> None:
        """Start from what is held now.

        Args:
            layers: of a model that the CPU computes.
        """
        self._layers = layers
        self._floor = own_bytes()

    def settle(self, *_: object) -> None:
        """Trim once GROWTH_BYTES have come since the last time."""
        held = own_bytes()
        if held <= self._floor + GROWTH_BYTES:
            self._floor = min(self._floor, held)
            return
        trim_heap()
        self._floor = own_bytes()

    @contextmanager
    def settling(self) -> Iterator[None]:
        """Settle behind every layer: one chunk of prefill can leave gaps of several times what it holds."""
        handles = [layer.register_forward_hook(self.settle) for layer in self._layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            self.settle()


def own_bytes() -> int:
    """Return this process's memory that no file stands behind, freed memory in its heap included."""
    _, resident, shared, *_ = STATM.read_bytes().split()
    return (int(resident) - int(shared)) * PAGE


def layers_of(model: CausalModel | torch.nn.Module) -> Sequence[torch.nn.Module]:
    """Return a model's layers: its longest list of modules."""
    lists = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    return list(max(lists, key=len, default=()))


def mapped_spans() -> list[Span]:
    """Return the (first, end) addresses at which files of weights are mapped, ascending."""
    return [(region.start, region.end) for region in mapped_regions()]


def release_mapped(kept: Iterable[torch.Tensor] = ()) -> None:
    """Take mapped pages of checkpoints out of this process, where none of these tensors lies.

    Nothing writes to a mapped checkpoint, so that a page that is touched again comes back as it was.
    """
    used = sorted(_span(tensor) for tensor in kept if not tensor.is_meta and tensor.device.type == "cpu")
    for span in mapped_spans():
        for start, end in _gaps(span, used):
            _libc.madvise(start, end - start, _DONT_NEED)


def release_pages(tensors: Iterable[torch.Tensor]) -> None:
    """Take the pages of views of mapped files out of this process; the page cache keeps what it has."""
    for tensor in tensors:
        start, end = _span(tensor)
        first = start // PAGE * PAGE
        _libc.madvise(first, end - first, _DONT_NEED)


def _span(tensor: torch.Tensor) -> Span:
    """From a tensor's first byte to behind its last, whatever its strides."""
    steps = (step * (size - 1) for step, size in zip(tensor.stride(), tensor.shape, strict=True))
    start = tensor.data_ptr()
    return start, start + (sum(steps) + 1) * tensor.element_size() if tensor.numel() else start


def _gaps(span: Span, used: list[Span]) -> list[Span]:
    """Return the whole pages of a span that touch nothing used; `used` is ascending."""
    gaps = []
    start, end = span
    for first, last in used:
        if last > start and first < end:
            gaps.append((start, first // PAGE * PAGE))
            start = max(start, -(-last // PAGE) * PAGE)
    gaps.append((start, end))
    return [(first, last) for first, last in gaps if first < last]
