"""How spans of files lie in one buffer; without torch, so that reading begins before it is imported."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from engine.hf.tiers.direct import ALIGNMENT, Extent, aligned

GAP_BYTES = 1 << 20
"""Between two tensors, below which both are read at once."""


class Layout:
    """Spans of files as they lie in a buffer: what lies together is read at once.

    Attributes:
        extents: one after the other.
        bytes: of the buffer.
    """

    def __init__(self, spans: Iterable[tuple[Path, int, int]]) -> None:
        """Take (file, offset, length), ascending within each file."""
        extents: list[Extent] = []
        for file, start, length in spans:
            if extents and _joins(extents[-1], file, start):
                last = extents.pop()
                last = last._replace(length=max(last.length, start + length - last.start))
            else:
                last = _begun(file, start, length, extents[-1] if extents else None)
            extents.append(last)
        self.extents = tuple(extents)
        self.bytes = _end(extents[-1]) if extents else 0

    def position(self, file: Path, start: int) -> int | None:
        """Return where an offset of a file lies in the buffer; None where it does not."""
        for extent in self.extents:
            if extent.file == file and extent.start <= start < extent.start + extent.length:
                return extent.position + start - extent.start
        return None


def _joins(extent: Extent, file: Path, start: int) -> bool:
    return extent.file == file and start <= extent.start + extent.length + GAP_BYTES


def _begun(file: Path, start: int, length: int, before: Extent | None) -> Extent:
    first = start - start % ALIGNMENT
    return Extent(file, first, start + length - first, _end(before) if before else 0)


def _end(extent: Extent) -> int:
    return extent.position + aligned(extent.length)
