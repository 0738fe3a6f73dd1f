"""Reads into memory: every byte where it belongs, direct or not, and every failure with a name."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import psutil
import pytest

from engine.errors import DamagedCheckpoint, EngineFault
from engine.hf.tiers import direct
from engine.hf.tiers.direct import ALIGNMENT, Extent, FileReader, aligned, aligned_memory, give_back
from engine.hf.tiers.residency import PageCache

SIZE = 3 * direct.CHUNK_BYTES + 12_345


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(random.Random(1).randbytes(SIZE))
    with path.open("rb") as written:
        os.fsync(written.fileno())
    return path


def read(reader: FileReader, extents: list[Extent]) -> memoryview:
    memory = aligned_memory(sum(aligned(extent.length) for extent in extents))
    reader.read(extents, memory).result()
    reader.close()
    return memory


@pytest.mark.parametrize("is_direct", [True, False])
def test_extents_arrive_where_they_are_wanted(file: Path, *, is_direct: bool) -> None:
    first = Extent(file, ALIGNMENT, 100, 0)
    second = Extent(file, 2 * ALIGNMENT, SIZE - 2 * ALIGNMENT, ALIGNMENT)
    memory = read(FileReader(is_direct=is_direct), [first, second])
    data = file.read_bytes()
    assert memory[:100] == data[ALIGNMENT : ALIGNMENT + 100]
    assert memory[ALIGNMENT : ALIGNMENT + second.length] == data[2 * ALIGNMENT :]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP])
def test_a_file_system_without_direct_reads_is_read_plainly(
    file: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    opened = os.open

    def refusing(path: Path, flags: int) -> int:
        if flags & os.O_DIRECT:
            raise OSError(number, os.strerror(number))
        return opened(path, flags)

    monkeypatch.setattr(os, "open", refusing)
    assert read(FileReader(), [Extent(file, 0, SIZE, 0)])[:SIZE] == file.read_bytes()


def test_short_reads_are_taken_up_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, buffers, at: preadv(fd, [buffers[0][:70_000]], at))
    assert read(FileReader(is_direct=False), [Extent(file, 0, SIZE, 0)])[:SIZE] == file.read_bytes()


def test_check_39_a_file_that_has_become_shorter_is_named(file: Path) -> None:
    reader = FileReader()
    assert reader.holds(Extent(file, 0, SIZE, 0))
    os.truncate(file, SIZE // 2)
    assert not reader.holds(Extent(file, 0, SIZE, 0))
    with pytest.raises(DamagedCheckpoint, match=r"model\.safetensors has become shorter"):
        read(reader, [Extent(file, 0, SIZE, 0)])


def test_a_disk_that_fails_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = FileReader()
    reader.holds(Extent(file, 0, SIZE, 0))

    def failing(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "preadv", failing)
    with pytest.raises(EngineFault, match=r"model\.safetensors cannot be read: Input/output error"):
        read(reader, [Extent(file, 0, SIZE, 0)])


def test_a_file_that_is_gone_is_named_before_anything_is_written(tmp_path: Path, file: Path) -> None:
    memory = aligned_memory(2 * ALIGNMENT)
    gone = Extent(tmp_path / "gone.safetensors", 0, 1, ALIGNMENT)
    with pytest.raises(EngineFault, match=r"gone\.safetensors"):
        FileReader().read([Extent(file, 0, ALIGNMENT, 0), gone], memory)
    assert bytes(memory[:ALIGNMENT]) == bytes(ALIGNMENT)


def test_memory_is_in_whole_pages_and_free_huge_ones_are_counted() -> None:
    assert len(aligned_memory(1)) == len(aligned_memory(ALIGNMENT)) == ALIGNMENT
    assert len(aligned_memory(2 * direct.SMALL_BYTES + 1)) == 2 * direct.SMALL_BYTES + ALIGNMENT
    assert 0 <= direct._free_huge_bytes() <= psutil.virtual_memory().total


def evict(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def test_the_page_cache_says_what_it_holds(file: Path) -> None:
    cache = PageCache()
    whole = [Extent(file, 0, SIZE, 0)]
    file.read_bytes()
    assert cache.holds(whole)
    evict(file)
    if cache.holds(whole):
        pytest.skip("this file system keeps its pages in RAM")
    with file.open("rb", buffering=0) as source:
        os.posix_fadvise(source.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        source.read(SIZE // 2)
    assert not cache.holds(whole)
    assert cache.holds([Extent(file, 0, SIZE // 2 - ALIGNMENT, 0)])
    assert not cache.holds([])
    cache.close()


def test_another_users_file_that_we_may_not_write_never_counts_as_cached(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.read_bytes()
    monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert not PageCache().holds([Extent(file, 0, SIZE, 0)])


@pytest.mark.parametrize(
    ("start", "end", "pages"), [(0, 3, []), (0.5, 2.5, [0, 2]), (1, 1.5, [0, 1, 2]), (2, 3, [0, 1])]
)
def test_only_whole_pages_are_given_back(start: float, end: float, pages: list[int]) -> None:
    memory = aligned_memory(3 * ALIGNMENT)
    memory[:] = b"x" * len(memory)
    give_back(memory, int(start * ALIGNMENT), int(end * ALIGNMENT))
    assert [page for page in range(3) if memory[page * ALIGNMENT]] == pages
