"""Byte ranges of files into page-aligned memory, by large reads on several threads."""

from __future__ import annotations

import errno
import mmap
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

from engine.errors import DamagedCheckpoint, EngineFault

READERS = 8
CHUNK_BYTES = 8 << 20
LARGEST_STEP_BYTES = 256 << 20
ALIGNMENT = 4096
"""Of file offsets, lengths and memory, for direct reads on any disk in use."""
SMALL_BYTES = 256 << 20
"""A buffer for which huge pages are worth any trouble: it is taken once, and used for every token."""
HUGE_ORDER = 9
"""Of 2 MiB, as a power of two of pages."""


class Extent(NamedTuple):
    """Bytes of a file, and where in a buffer they go; all but the end of the file aligned.

    Attributes:
        file: that holds them.
        start: offset in the file.
        length: in bytes.
        position: offset in the buffer.
    """

    file: Path
    start: int
    length: int
    position: int


def aligned(size: int) -> int:
    """Round up to whole pages."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def aligned_memory(size: int) -> memoryview:
    """Reserve private memory, page-aligned, in huge pages where the kernel has enough of them at once.

    Where it would have to move others' pages about for them, reading into 2 GB took four times as long.
    Nothing is taken before it is written to; it is given back with the last reference.
    """
    memory = mmap.mmap(-1, max(aligned(size), ALIGNMENT), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size <= SMALL_BYTES or size <= _free_huge_bytes():
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(memory)


def give_back(memory: memoryview, start: int, end: int) -> None:
    """Return the whole pages between two positions of aligned memory: they read as zeros then."""
    first = aligned(start)
    length = (end - first) // ALIGNMENT * ALIGNMENT
    if length > 0 and isinstance(memory.obj, mmap.mmap):
        memory.obj.madvise(mmap.MADV_DONTNEED, first, length)


def _free_huge_bytes() -> int:
    """Bytes that are free in blocks of a huge page or more; 0 where the kernel does not tell."""
    try:
        lines = Path("/proc/buddyinfo").read_text().splitlines()
    except OSError:
        return 0
    counts = [line.split()[4:] for line in lines]
    pages = (int(n) << order for row in counts for order, n in enumerate(row) if order >= HUGE_ORDER)
    return sum(pages) * ALIGNMENT


class _File(NamedTuple):
    """A file that is open.

    Attributes:
        descriptor: of it.
        bytes: its length when it was opened.
        changed_at: when it had been written to last, in nanoseconds.
    """

    descriptor: int
    bytes: int
    changed_at: int


class Read:
    """Reads into one buffer, under way."""

    def __init__(self, parts: list[Future[None]], tally: list[int]) -> None:
        """Take the futures of its parts, and what counts the bytes that each has read."""
        self._parts = parts
        self._tally = tally

    @property
    def done_bytes(self) -> int:
        """How much has arrived."""
        return sum(self._tally)

    def wait(self, seconds: float) -> bool:
        """Wait for the bytes, no longer than that; say whether nothing is under way any more."""
        return not wait(self._parts, seconds).not_done

    def result(self) -> None:
        """Wait for the bytes.

        Raises:
            DamagedCheckpoint: a file has become shorter.
            EngineFault: the disk failed.
        """
        for part in self._parts:
            part.result()

    def drain(self) -> None:
        """Wait until nothing writes to the buffer any more; errors do not matter."""
        for part in self._parts:
            part.cancel()
        wait(self._parts)


class FileReader:
    """Reads in the order of asking; past the page cache where the file system can.

    Attributes:
        patience: seconds that one call of the kernel may take, and so a stop. A thread that waits for
            Python's lock between two calls reads nothing meanwhile: where others keep the lock for long,
            the calls have to be long as well. 0 makes each call CHUNK_BYTES.
    """

    def __init__(self, *, is_direct: bool = True, part_bytes: int = CHUNK_BYTES, patience: float = 0) -> None:
        """Begin without open files; threads start with the first read.

        Args:
            is_direct: read past the page cache; else through it, where the bytes are known to be there.
            part_bytes: that one thread reads one after the other.
            patience: see above.
        """
        self.patience = patience
        self._is_direct = is_direct
        self._part_bytes = part_bytes
        self._is_stopped = False
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="disk")
        self._files: dict[Path, _File] = {}

    def read(self, extents: Iterable[Extent], memory: memoryview) -> Read:
        """Queue the extents of one buffer: all, or none where a file cannot be opened.

        Raises:
            DamagedCheckpoint: a file was written to since it was opened.
            EngineFault: one cannot be opened.
        """
        parts = [
            (self._descriptor(extent.file), part)
            for extent in extents
            for part in _parts(extent, self._part_bytes)
        ]
        tally = [0] * len(parts)
        queue = self._threads.submit
        return Read([queue(self._fill, *part, memory, tally, at) for at, part in enumerate(parts)], tally)

    def holds(self, extent: Extent) -> bool:
        """Say whether the file is still long enough; raises as `read` does."""
        return os.fstat(self._descriptor(extent.file)).st_size >= extent.start + extent.length

    def stop(self) -> None:
        """Read nothing more; what is under way ends soon, its buffers half full."""
        self._is_stopped = True

    def close(self) -> None:
        """Wait for what is under way, and close the files."""
        self._threads.shutdown(cancel_futures=True)
        for file in self._files.values():
            os.close(file.descriptor)
        self._files.clear()

    def _fill(self, descriptor: int, part: Extent, memory: memoryview, tally: list[int], at: int) -> None:
        """Read one part; whatever comes short is asked for again from a whole page on."""
        target = memory[part.position : part.position + aligned(part.length)]
        step = CHUNK_BYTES
        while tally[at] < part.length and not self._is_stopped:
            began = time.monotonic()
            tally[at] = _reached(descriptor, part, target[: tally[at] + step], tally[at])
            if self.patience:
                step = _next_step(step, time.monotonic() - began, self.patience)

    def _descriptor(self, file: Path) -> int:
        try:
            if file not in self._files:
                self._files[file] = _seen(_opened(file, is_direct=self._is_direct))
            _require_unchanged(file, self._files[file])
        except OSError as error:
            raise _unreadable(file, error) from error
        return self._files[file].descriptor


def _parts(extent: Extent, part_bytes: int) -> Iterator[Extent]:
    for done in range(0, extent.length, part_bytes):
        length = min(part_bytes, extent.length - done)
        yield Extent(extent.file, extent.start + done, length, extent.position + done)


def _reached(descriptor: int, part: Extent, target: memoryview, done: int) -> int:
    """Read on from `done` to the end of the target, and return how far the part is read.

    Raises:
        DamagedCheckpoint: there is no more.
        EngineFault: the disk failed.
    """
    try:
        reached = done + os.preadv(descriptor, [target[done:]], part.start + done)
    except OSError as error:
        raise _unreadable(part.file, error) from error
    if reached >= part.length:
        return part.length
    reached -= reached % ALIGNMENT
    if reached <= done:
        raise DamagedCheckpoint(
            f"{part.file.name} has become shorter while it is in use.",
            "Download the model again, and load it again.",
        )
    return reached


def _next_step(step: int, seconds: float, patience: float) -> int:
    """Bytes that are read in `patience`, where this step took so many seconds."""
    fitting = int(step * patience / max(seconds, 1e-6)) // CHUNK_BYTES * CHUNK_BYTES
    return min(max(fitting, CHUNK_BYTES), 2 * step, LARGEST_STEP_BYTES)


def _seen(descriptor: int) -> _File:
    status = os.fstat(descriptor)
    return _File(descriptor, status.st_size, status.st_mtime_ns)


def _require_unchanged(path: Path, file: _File) -> None:
    """Refuse what was written to; where it has become shorter, reading says so."""
    now = _seen(file.descriptor)
    if now.bytes >= file.bytes and now.changed_at != file.changed_at:
        raise DamagedCheckpoint(
            f"{path.name} has changed while it is in use.", "Load the model again: it is another one now."
        )


def _unreadable(file: Path, error: OSError) -> EngineFault:
    reason = os.strerror(error.errno) if error.errno else str(error)
    return EngineFault(
        f"{file.name} cannot be read: {reason}.", "See whether its disk is still there, and load it again."
    )


def _opened(file: Path, *, is_direct: bool) -> int:
    """Open a file for direct reads, or for plain ones where a trial says that direct ones do not work."""
    if is_direct and hasattr(os, "O_DIRECT"):
        try:
            return _tried(os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT))
        except OSError as error:
            if error.errno not in {errno.EINVAL, errno.EOPNOTSUPP}:
                raise
    return os.open(file, os.O_RDONLY | os.O_CLOEXEC)


def _tried(descriptor: int) -> int:
    try:
        os.preadv(descriptor, [aligned_memory(ALIGNMENT)], 0)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
