"""Which files of weights this process has mapped, and where."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

_SUFFIX = ".safetensors"
_BLOBS = "blobs"
"""Hugging Face's cache keeps files there under their checksums; what bears their names are links."""


class Region(NamedTuple):
    """A mapped part of a file: [start, end) in memory, beginning at `offset` of the file."""

    start: int
    end: int
    offset: int
    file: Path


def mapped_regions() -> list[Region]:
    """The mapped files of weights of this process, by address."""
    lines = Path("/proc/self/maps").read_text(errors="replace").splitlines()
    return sorted(_region(line) for line in lines if _is_of_weights(line))


def _is_of_weights(line: str) -> bool:
    return line.endswith(_SUFFIX) or line.rpartition("/")[0].endswith(f"/{_BLOBS}")


def _region(line: str) -> Region:
    span, _, offset, _, _, name = line.split(maxsplit=5)
    start, end = (int(part, 16) for part in span.split("-"))
    return Region(start, end, int(offset, 16), Path(name))
