"""Where the weights of a module lie in the checkpoint's files, and how a buffer of them is laid out."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from engine.hf.mapped import Region
from engine.hf.tiers.direct import Extent
from engine.hf.tiers.layout import Layout
from engine.plan.in_place import KEPT_SHARE


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


def image_of(parameters: Iterable[torch.nn.Parameter], regions: Sequence[Region]) -> Image | None:
    """Lay out parameters that are views of mapped files; None where much of them is not."""
    parameters = list(parameters)
    places = [(place_of(parameter, regions), parameter) for parameter in parameters]
    found = [(*place, parameter) for place, parameter in places if place is not None]
    made = sum(parameter.nbytes for place, parameter in places if place is None)
    if made > KEPT_SHARE * sum(parameter.nbytes for parameter in parameters):
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


def laid_out(found: Iterable[tuple[Path, int, torch.nn.Parameter]]) -> Image:
    """Lay out parameters in the order of their files.

    Args:
        found: (file, offset, parameter) in any order.
    """
    places = sorted(found, key=lambda item: (str(item[0]), item[1]))
    layout = Layout((file, start, parameter.nbytes) for file, start, parameter in places)
    views = [View(tensor, tensor.data, layout.position(file, start) or 0) for file, start, tensor in places]
    return Image(layout.extents, tuple(views), layout.bytes)


def bound_view(whole: torch.Tensor, position: int, like: torch.Tensor) -> torch.Tensor:
    """Return a tensor's part of a buffer.

    Args:
        whole: the buffer, uint8 [bytes].
        position: of the tensor's first byte.
        like: a tensor of its dtype and shape.
    """
    return whole[position : position + like.nbytes].view(like.dtype).view(like.shape)
