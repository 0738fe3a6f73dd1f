"""Memory that was freed and is still kept for later: the C library's heap, and mapped pages nobody needs."""

from __future__ import annotations

import ctypes
import resource
from collections.abc import Iterable
from pathlib import Path

import torch
from torch.utils.hooks import RemovableHandle

PAGE = resource.getpagesize()
_DONT_NEED = 4
"""MADV_DONTNEED of Linux: the pages leave this process; the file's stay cached and come back when touched."""

_libc = ctypes.CDLL(None)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
Span = tuple[int, int]


def trim_heap() -> None:
    """Return free pages between what is still in use to the operating system.

    Caches that grow and buffers of every size leave gaps, which nothing later fits into: over a long
    prompt they add up to several times what is alive.
    """
    _libc.malloc_trim(0)


def trim_after_first_pass(model: torch.nn.Module) -> None:
    """Trim the heap behind each layer of the first forward, where bitsandbytes packs weights once more."""
    lists = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    for layer in max(lists, key=len, default=()):
        handles: list[RemovableHandle] = []

        def trim(*_: object, handles: list[RemovableHandle] = handles) -> None:
            handles.pop().remove()
            trim_heap()

        handles.append(layer.register_forward_hook(trim))


def mapped_spans() -> list[Span]:
    """Return the (first, end) addresses at which safetensors files are mapped, ascending."""
    lines = Path("/proc/self/maps").read_text(errors="replace").splitlines()
    ranges = (line.split(" ", 1)[0].partition("-") for line in lines if line.endswith(".safetensors"))
    return [(int(start, 16), int(end, 16)) for start, _, end in ranges]


def release_mapped(kept: Iterable[torch.Tensor] = ()) -> None:
    """Take mapped pages of checkpoints out of this process, where none of these tensors lies.

    Nothing writes to a mapped checkpoint, so that a page that is touched again comes back as it was.
    """
    used = sorted(_span(tensor) for tensor in kept if not tensor.is_meta and tensor.device.type == "cpu")
    for span in mapped_spans():
        for start, end in _gaps(span, used):
            _libc.madvise(start, end - start, _DONT_NEED)


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
