"""How fast files come from the disk: directly, through the page cache, and mapped."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from engine.hf.measure_clock import timed, until
from engine.hf.tiers.direct import Extent, FileReader, aligned_memory

FILE_BYTES = 256 << 20
PART_BYTES = 64 << 20
BLOCK_BYTES = 8 << 20
TENSORS = 300
MIN_FREE_SHARE = 4
"""The scratch file is no larger than this part of the free space."""


class DiskSpeed(NamedTuple):
    """Bytes per second.

    Attributes:
        direct: large reads past the page cache, as many at once as the disk tier keeps under way.
        read: one reader through it.
        mapped: pages that are not cached, as they are touched.
        cached: pages that are.
    """

    direct: float
    read: float
    mapped: float
    cached: float


@contextmanager
def scratch_file(folder: Path) -> Iterator[Path]:
    """A private file of random bytes on the disk, gone in the end, and smaller where space is short."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    blocks = max(8, min(FILE_BYTES, free // MIN_FREE_SHARE) // BLOCK_BYTES)
    with tempfile.NamedTemporaryFile(prefix="measure-", dir=folder) as file:
        content = os.urandom(BLOCK_BYTES)
        for _ in range(blocks):
            file.write(content)
        file.flush()
        os.fsync(file.fileno())
        yield Path(file.name)


def disk_speed(path: Path) -> DiskSpeed:
    """Measure reading a file: a part of it each way, each from the disk."""
    size = path.stat().st_size
    part = size // 4 // BLOCK_BYTES * BLOCK_BYTES
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        read = part / timed(lambda: _read(file.fileno(), 0, part))
        mapped = part / timed(lambda: _touch(file.fileno(), part, part))
        cached = part / until(0.2, 4, lambda: _touch(file.fileno(), part, part))
    return DiskSpeed(_direct(path, 2 * part, size), read, mapped, cached)


def _read(descriptor: int, start: int, length: int) -> None:
    block = bytearray(BLOCK_BYTES)
    for offset in range(start, start + length, BLOCK_BYTES):
        os.preadv(descriptor, [block], offset)


def _touch(descriptor: int, start: int, length: int) -> None:
    """Map a part and read it as a forward reads weights."""
    with mmap.mmap(descriptor, length, flags=mmap.MAP_PRIVATE, offset=start) as pages:
        numbers = torch.frombuffer(pages, dtype=torch.float32)
        numbers.view(-1, BLOCK_BYTES // 4).amax(dim=1)
        del numbers


def _direct(path: Path, start: int, end: int) -> float:
    """Bytes per second of several readers past the page cache; through it where there is no such way."""
    memory = aligned_memory(end - start)
    memory[:] = bytes(len(memory))  # the tier's buffers are taken once, and used for every token
    reader = FileReader()
    try:
        return (end - start) / timed(
            lambda: reader.read([Extent(path, start, end - start, 0)], memory).result()
        )
    finally:
        reader.close()


def tensor_seconds(folder: Path) -> float:
    """Seconds to open a file of 300 tensors and fetch one, as accelerate does for each use."""
    with tempfile.TemporaryDirectory(prefix="measure-", dir=folder) as own:
        path = Path(own) / "model.safetensors"
        save_file({f"model.layers.{index}.weight": torch.zeros(1) for index in range(TENSORS)}, path)
        return until(0.2, 40, lambda: _fetch(path))


def _fetch(path: Path) -> None:
    with safe_open(path, framework="pt", device="cpu") as file:
        file.get_tensor("model.layers.1.weight")


def copy_bandwidth() -> float:
    """Bytes per second that are copied to memory which the process has not touched yet."""
    source = torch.zeros(PART_BYTES, dtype=torch.uint8)
    return PART_BYTES / until(0.3, 4, source.clone)
