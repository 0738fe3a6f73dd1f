"""Packed weights, written to our cache in the background: whole, or not at all; without torch."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from engine.offload import is_running
from engine.plan.packed import SUFFIX, UNFINISHED

CHECKSUMS = "vramble.crc32"
ALIGNMENT = 64
"""Where the first tensor begins."""
BLOCK_BYTES = 8 << 20
FLUSH_BYTES = 64 << 20
"""Written before the disk is waited for: what waits in the page cache takes the room of others."""
LEAST_FREE_BYTES = 2 << 30
LARGEST_SHARE = 0.25
"""Of the space that is free or kept already, that all kept files may take."""
_LENGTH = struct.Struct("<Q")
_CHECKSUM = struct.Struct("<I")
_NICEST = 19


class Entry(NamedTuple):
    """One tensor as it goes to the file.

    Attributes:
        name: of it.
        dtype: safetensors' name.
        shape: in elements.
        content: its bytes, which nobody writes to.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    content: memoryview


class Keeper:
    """Writes one file on a thread of the lowest priority, which calls no torch."""

    def __init__(self, path: Path, entries: Sequence[Entry], is_current: Callable[[], bool]) -> None:
        """Begin to write.

        Args:
            path: of the file, in a folder of our own.
            entries: in the order of the file.
            is_current: says in the end whether they are still what the path stands for.
        """
        self._path = path
        self._entries = tuple(entries)
        self._is_current = is_current
        self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write nothing more, and leave nothing half done; returns when the memory is let go."""
        self._is_stopped = True
        self.wait()

    def wait(self) -> None:
        """Wait for the end, whatever it is."""
        self._thread.join()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICEST)
        with contextlib.suppress(OSError):  # a full disk, or none of ours: then nothing is kept
            self._keep()
        self._entries = ()

    def _keep(self) -> None:
        folder = self._path.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        header = _header(self._entries)
        size = len(header) + sum(len(entry.content) for entry in self._entries)
        size += _CHECKSUM.size * len(self._entries)
        if not make_room(folder, size):
            return
        descriptor, name = tempfile.mkstemp(prefix=f"{UNFINISHED}{os.getpid()}-", dir=folder)
        try:
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                os.posix_fallocate(file.fileno(), 0, size)
                is_whole = self._write(file.fileno(), header)
            if is_whole and self._is_current():
                os.replace(name, self._path)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(name)

    def _write(self, descriptor: int, header: bytes) -> bool:
        """Write everything; False where it was stopped."""
        checksums = bytearray()
        for block in self._blocks(header, checksums):
            if self._is_stopped:
                return False
            _write_all(descriptor, block)
            position = os.lseek(descriptor, 0, os.SEEK_CUR)
            if position % FLUSH_BYTES < len(block):
                _flush(descriptor)
        _flush(descriptor)
        return True

    def _blocks(self, header: bytes, checksums: bytearray) -> Iterator[memoryview]:
        yield memoryview(header)
        for entry in self._entries:
            for start in range(0, len(entry.content), BLOCK_BYTES):
                yield entry.content[start : start + BLOCK_BYTES]
            checksums += _CHECKSUM.pack(zlib.crc32(entry.content))
        yield memoryview(checksums)


def make_room(folder: Path, size: int) -> bool:
    """Remove what was left unfinished, then the files that were of no use for longest.

    Args:
        folder: of kept files.
        size: bytes of the next one.

    Returns:
        whether it has room; where it has none in any case, nothing is removed.
    """
    _sweep(folder)
    stats = {path: path.stat() for path in folder.glob(f"*{SUFFIX}")}
    oldest = sorted(stats, key=lambda path: stats[path].st_mtime)
    held = sum(status.st_size for status in stats.values())
    disk = os.statvfs(folder)
    room = disk.f_bavail * disk.f_frsize + held
    if size > LARGEST_SHARE * room or size + LEAST_FREE_BYTES > room:
        return False
    while oldest and (held + size > LARGEST_SHARE * room or held + size + LEAST_FREE_BYTES > room):
        held -= stats[oldest[0]].st_size
        oldest.pop(0).unlink(missing_ok=True)
    return True


def are_sound(contents: Sequence[memoryview], checksums: memoryview) -> bool:
    """Compare what was read with what was written, tensor by tensor."""
    if len(checksums) != _CHECKSUM.size * len(contents):
        return False
    expected = (checksum for (checksum,) in _CHECKSUM.iter_unpack(checksums))
    return all(zlib.crc32(content) == said for content, said in zip(contents, expected, strict=True))


def _sweep(folder: Path) -> None:
    for path in folder.glob(f"{UNFINISHED}*"):
        if not is_running(path.name.removeprefix(UNFINISHED).partition("-")[0]):
            path.unlink(missing_ok=True)


def _header(entries: Sequence[Entry]) -> bytes:
    described: dict[str, object] = {}
    position = 0
    for entry in entries:
        end = position + len(entry.content)
        described[entry.name] = {"dtype": entry.dtype, "shape": entry.shape, "data_offsets": (position, end)}
        position = end
    length = _CHECKSUM.size * len(entries)
    described[CHECKSUMS] = {"dtype": "U8", "shape": (length,), "data_offsets": (position, position + length)}
    content = json.dumps(described).encode()
    content += b" " * (-(len(content) + _LENGTH.size) % ALIGNMENT)
    return _LENGTH.pack(len(content)) + content


def _write_all(descriptor: int, block: memoryview) -> None:
    while block:
        block = block[os.write(descriptor, block) :]


def _flush(descriptor: int) -> None:
    os.fdatasync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
