"""Where the weights of a module lie in the checkpoint's files, and how a buffer of them is laid out."""

from __future__ import annotations

import bisect
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from engine.hf.tiers.direct import ALIGNMENT, Extent, aligned

GAP_BYTES = 1 << 20
"""Between two tensors, below which both are read at once."""
KEPT_BYTES = 1 << 20
"""A tensor that was converted while loading stays in RAM, if it is no larger than this."""


class Region(NamedTuple):
    """A mapped part of a file: [start, end) in memory, beginning at `offset` of the file."""

    start: int
    end: int
    offset: int
    file: Path


class View(NamedTuple):
    """A parameter within a buffer.

    Attributes:
        parameter: what is bound.
        home: its values as a view of the mapped file, where it stays outside of its forward.
        position: in bytes.
    """

    parameter: torch.nn.Parameter
    home: torch.Tensor
    position: int


class Image(NamedTuple):
    """One module as it lies in a buffer.

    Attributes:
        extents: what is read.
        views: what the parameters become.
        bytes: of the buffer.
    """

    extents: tuple[Extent, ...]
    views: tuple[View, ...]
    bytes: int


class _Found(NamedTuple):
    file: Path
    start: int
    parameter: torch.nn.Parameter


def mapped_regions() -> list[Region]:
    """The mapped safetensors of this process, by address."""
    regions = []
    for line in Path("/proc/self/maps").read_text(errors="replace").splitlines():
        if line.endswith(".safetensors"):
            span, _, offset, _, _, name = line.split(maxsplit=5)
            start, end = (int(part, 16) for part in span.split("-"))
            regions.append(Region(start, end, int(offset, 16), Path(name)))
    return sorted(regions)


def image_of(parameters: Iterable[torch.nn.Parameter], regions: Sequence[Region]) -> Image | None:
    """Lay out parameters that are views of mapped files; None where a large one is not."""
    found = []
    for parameter in parameters:
        place = place_of(parameter, regions)
        if place is not None:
            found.append(_Found(*place, parameter))
        elif parameter.nbytes > KEPT_BYTES:
            return None
    return laid_out(found)


def place_of(tensor: torch.Tensor, regions: Sequence[Region]) -> tuple[Path, int] | None:
    """Return the file and the offset that a tensor is a view of; None where it is none that can be moved."""
    if tensor.device.type != "cpu" or type(tensor.data) is not torch.Tensor or not tensor.is_contiguous():
        return None
    address = tensor.data_ptr()
    at = bisect.bisect_right(regions, address, key=lambda region: region.start) - 1
    if at < 0 or address + tensor.nbytes > regions[at].end or not tensor.nbytes:
        return None
    offset = address - regions[at].start + regions[at].offset
    return (regions[at].file, offset) if offset % tensor.element_size() == 0 else None


def laid_out(found: Collection[tuple[Path, int, torch.nn.Parameter]]) -> Image:
    """Join what lies together in the files to extents, one after the other in a buffer.

    Args:
        found: (file, offset, parameter) in any order.
    """
    extents: list[Extent] = []
    views: list[View] = []
    for file, start, parameter in sorted(found, key=lambda item: (str(item[0]), item[1])):
        end = start + parameter.nbytes
        if extents and _joins(extents[-1], file, start):
            last = extents.pop()
            last = last._replace(length=max(last.length, end - last.start))
        else:
            last = _begun(file, start, end, extents[-1] if extents else None)
        extents.append(last)
        views.append(View(parameter, parameter.data, last.position + start - last.start))
    return Image(tuple(extents), tuple(views), _end(extents[-1]) if extents else 0)


def _joins(extent: Extent, file: Path, start: int) -> bool:
    return extent.file == file and start <= extent.start + extent.length + GAP_BYTES


def _begun(file: Path, start: int, end: int, before: Extent | None) -> Extent:
    first = start - start % ALIGNMENT
    return Extent(file, first, end - first, _end(before) if before else 0)


def _end(extent: Extent) -> int:
    return extent.position + aligned(extent.length)


def bound_view(whole: torch.Tensor, view: View) -> torch.Tensor:
    """Return a parameter's part of a buffer.

    Args:
        whole: the buffer, uint8 [bytes].
        view: of the parameter.
    """
    part = whole[view.position : view.position + view.home.nbytes]
    return part.view(view.home.dtype).view(view.home.shape)
