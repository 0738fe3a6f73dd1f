"""Packed weights, written to our cache in the background: whole, or not at all; without torch."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
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
NICENESS = 10
"""A tenth of a core beside a reply, which is not slowed by it; with 19 there was no file before its end."""


class Entry(NamedTuple):
    """One tensor as it goes to the file.

    Attributes:
        name: of it.
        dtype: safetensors' name.
        shape: in elements.
        bytes: of all blocks.
        blocks: makes its content, piece by piece.
        content: all of it, where it lies in memory.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    blocks: Callable[[], Iterator[memoryview]]
    content: memoryview = memoryview(b"")


def whole(name: str, dtype: str, shape: tuple[int, ...], content: memoryview) -> Entry:
    """Describe a tensor whose bytes lie in memory, where nobody writes to them."""

    def blocks() -> Iterator[memoryview]:
        return (content[at : at + BLOCK_BYTES] for at in range(0, len(content), BLOCK_BYTES))

    return Entry(name, dtype, shape, len(content), blocks, content)


class Stopped(Exception):  # noqa: N818 -- no error: nobody wants the file any more
    """Nothing more is to be written."""


class Keeper:
    """Writes one file on a thread of low priority, which calls no torch."""

    def __init__(
        self,
        path: Path,
        arrange: Callable[[Callable[[], None]], Sequence[Entry]],
        is_current: Callable[[], bool],
    ) -> None:
        """Begin to write.

        Args:
            path: of the file, in a folder of our own.
            arrange: returns the entries in the order of the file; is given what to call now and then.
            is_current: says in the end whether they are still what the path stands for.
        """
        self._path = path
        self._arrange = arrange
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
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        with contextlib.suppress(OSError, Stopped):  # a full disk, or none of ours: then nothing is kept
            self._keep(self._arrange(self._check))
        self._arrange = _nothing

    def _check(self) -> None:
        """Raise Stopped where nothing more is to be written."""
        if self._is_stopped:
            raise Stopped

    def _keep(self, entries: Sequence[Entry]) -> None:
        folder = self._path.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        header = _header(entries)
        size = len(header) + sum(entry.bytes for entry in entries) + _CHECKSUM.size * len(entries)
        if not make_room(folder, size):
            return
        descriptor, name = tempfile.mkstemp(prefix=f"{UNFINISHED}{os.getpid()}-", dir=folder)
        try:
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                os.posix_fallocate(file.fileno(), 0, size)
                self._write(file.fileno(), _content(header, entries))
            if self._is_current():
                os.replace(name, self._path)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(name)

    def _write(self, descriptor: int, content: Iterable[memoryview]) -> None:
        for block in content:
            self._check()
            _write_all(descriptor, block)
            position = os.lseek(descriptor, 0, os.SEEK_CUR)
            if position % FLUSH_BYTES < len(block):
                _flush(descriptor)
        _flush(descriptor)


def _nothing(_: Callable[[], None]) -> Sequence[Entry]:
    return ()


def _content(header: bytes, entries: Iterable[Entry]) -> Iterator[memoryview]:
    """The file, piece by piece: its last tensor is the checksums of the others."""
    checksums = bytearray()
    yield memoryview(header)
    for entry in entries:
        checksum = 0
        for block in entry.blocks():
            checksum = zlib.crc32(block, checksum)
            yield block
        checksums += _CHECKSUM.pack(checksum)
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
        end = position + entry.bytes
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
