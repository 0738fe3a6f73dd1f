"""The ring: what is bound is what was read, nothing writes where something is used, nothing stays."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from engine.errors import DamagedCheckpoint
from engine.hf.tiers.direct import Extent
from engine.hf.tiers.images import Image, View
from engine.hf.tiers.ring import Ring, slot_sizes

SEED = 20261121
SCHEDULES = 10_000
HOME = 255
FILE = Path("model.safetensors")


@cache
def image(member: int, size: int) -> Image:
    """A module of one parameter of `size` bytes; its file is full of `member`, its home of HOME."""
    home = torch.full((size,), HOME, dtype=torch.uint8)
    parameter = torch.nn.Parameter(home, requires_grad=False)
    return Image((Extent(FILE, member, size, 0),), (View(parameter, home, 0),), size)


def bound(images: list[Image], member: int) -> set[int]:
    """The distinct bytes that a module's parameter shows."""
    return set(images[member].views[0].parameter.numpy().tobytes())


class Pending:
    """A read that happens when the disk gets to it."""

    def __init__(self, extent: Extent, memory: memoryview) -> None:
        self.extent = extent
        self.memory: memoryview | None = memory

    def finish(self) -> None:
        if self.memory is not None:
            self.memory[: self.extent.length] = bytes([self.extent.start]) * self.extent.length
            self.memory = None

    def result(self) -> None:
        self.finish()

    def drain(self) -> None:
        self.memory = None


class SlowDisk:
    """Reads queued until `work` is called, each done at a random moment."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.pending: list[Pending] = []

    def read(self, extents: Iterable[Extent], memory: memoryview) -> Pending:
        (extent,) = extents
        self.pending.append(Pending(extent, memory))
        return self.pending[-1]

    def holds(self, extent: Extent) -> bool:
        return True

    def work(self) -> None:
        some = [read for read in self.pending if self.chance.random() < 0.5]
        for read in some:
            read.finish()
        self.pending = [read for read in self.pending if read.memory is not None]


class SomeCached:
    def __init__(self, cached: set[int]) -> None:
        self.cached = cached

    def holds(self, extents: Iterable[Extent]) -> bool:
        return {extent.start for extent in extents} <= self.cached


NOTHING = SomeCached(set())


class Schedule(NamedTuple):
    """Modules in the order a model enters them: whole passes, passes broken off, jumps."""

    sizes: list[int]
    slots: int
    entries: list[int]
    cached: set[int]


def schedule(chance: random.Random) -> Schedule:
    members = chance.randint(1, 7)
    entries: list[int] = []
    for _ in range(chance.randint(1, 4)):
        whole = list(range(members))
        kind = chance.random()
        if kind < 0.2:
            whole = whole[: chance.randint(1, members)]
        elif kind < 0.3:
            chance.shuffle(whole)
        entries += whole
    sizes = [chance.choice((1, 7, 32, 64)) for _ in range(members)]
    cached = {member for member in range(members) if chance.random() < 0.15}
    return Schedule(sizes, chance.randint(2, 5), entries, cached)


def test_in_ten_thousand_random_schedules_no_buffer_is_overwritten_before_it_was_used() -> None:
    chance = random.Random(SEED)
    for _ in range(SCHEDULES):
        plan = schedule(chance)
        images = [image(member, size) for member, size in enumerate(plan.sizes)]
        disk = SlowDisk(chance)
        ring = Ring(images, disk, SomeCached(plan.cached), plan.slots)
        for member in plan.entries:
            ring.enter(member)
            expected = {HOME if member in plan.cached else member}
            assert bound(images, member) == expected, plan
            disk.work()
            assert bound(images, member) == expected, plan
            if chance.random() < 0.7:
                ring.leave()
                assert bound(images, member) == {HOME}, plan
        ring.close()
        assert all(bound(images, member) == {HOME} for member in range(len(images))), plan
        assert all(read.memory is None for read in disk.pending), plan


class Threaded:
    """Reads on threads that linger over a buffer, byte by byte."""

    def __init__(self, threads: ThreadPoolExecutor, extent: Extent, memory: memoryview) -> None:
        self.future = threads.submit(self.write, extent, memory)

    @staticmethod
    def write(extent: Extent, memory: memoryview) -> None:
        for at in range(extent.length):
            memory[at] = extent.start
            if at % 16 == 0:
                time.sleep(0)

    def result(self) -> None:
        self.future.result()

    def drain(self) -> None:
        if not self.future.cancel():
            self.future.result()


class ThreadedDisk:
    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self.threads = threads

    def read(self, extents: Iterable[Extent], memory: memoryview) -> Threaded:
        (extent,) = extents
        return Threaded(self.threads, extent, memory)

    def holds(self, extent: Extent) -> bool:
        return True


def test_the_same_holds_while_real_threads_write() -> None:
    chance = random.Random(SEED)
    with ThreadPoolExecutor(3) as threads:
        for _ in range(100):
            plan = schedule(chance)
            images = [image(member, size) for member, size in enumerate(plan.sizes)]
            ring = Ring(images, ThreadedDisk(threads), NOTHING, plan.slots)
            for member in plan.entries:
                ring.enter(member)
                first = bound(images, member)
                time.sleep(0)
                assert first == bound(images, member) == {member}, plan
            ring.close()


class Counting(SlowDisk):
    def __init__(self) -> None:
        super().__init__(random.Random(SEED))
        self.asked: list[int] = []

    def read(self, extents: Iterable[Extent], memory: memoryview) -> Pending:
        extents = list(extents)
        self.asked += [extent.start for extent in extents]
        return super().read(extents, memory)


def passes(ring: Ring, order: list[int], count: int) -> None:
    for _ in range(count):
        for member in order:
            ring.enter(member)
            ring.leave()


def test_what_follows_is_asked_for_before_the_module_is_waited_for() -> None:
    disk = Counting()
    ring = Ring([image(member, 8) for member in range(6)], disk, NOTHING, 3)
    ring.enter(0)
    assert disk.asked == [0, 1, 2]
    ring.leave()
    assert disk.asked == [0, 1, 2, 3]
    ring.close()


def test_a_pass_that_begins_in_ram_lets_the_disk_begin_as_well() -> None:
    disk = Counting()
    ring = Ring([image(member, 8) for member in range(6)], disk, NOTHING, 3)
    ring.begin()
    assert disk.asked == [0, 1, 2]
    passes(ring, list(range(6)), 1)
    ring.begin()
    assert disk.asked[:6] == list(range(6))
    ring.rest()
    disk.asked.clear()
    ring.begin()
    assert disk.asked == [0, 1, 2]
    ring.close()


def test_each_module_is_read_once_a_pass() -> None:
    disk = Counting()
    ring = Ring([image(member, 8) for member in range(6)], disk, NOTHING, 3)
    passes(ring, list(range(6)), 10)
    assert len(disk.asked) <= 60 + 3
    ring.close()


def test_an_order_other_than_the_planned_one_is_learnt() -> None:
    disk = Counting()
    ring = Ring([image(member, 8) for member in range(6)], disk, NOTHING, 3)
    order = [0, 2, 4, 1, 3, 5]
    passes(ring, order, 3)
    before = len(disk.asked)
    passes(ring, order, 10)
    assert len(disk.asked) - before <= 60
    ring.close()


def test_a_broken_off_pass_is_no_order_to_learn() -> None:
    disk = Counting()
    ring = Ring([image(member, 8) for member in range(6)], disk, NOTHING, 3)
    passes(ring, list(range(6)), 2)
    passes(ring, [0, 1, 2], 1)
    before = len(disk.asked)
    passes(ring, list(range(6)), 1)
    assert disk.asked[before:].count(3) <= 1
    assert len(disk.asked) - before <= 6 + 3
    ring.close()


def test_what_the_page_cache_holds_is_not_read() -> None:
    disk = Counting()
    images = [image(member, 8) for member in range(6)]
    ring = Ring(images, disk, SomeCached({1, 4}), 3)
    passes(ring, list(range(6)), 3)
    assert not {1, 4} & set(disk.asked)
    ring.close()


def test_one_large_module_makes_one_large_buffer() -> None:
    assert slot_sizes([10, 1000, 10, 20], 3) == [1000, 20, 10]
    images = [image(member, size) for member, size in enumerate([10, 1000, 10, 20])]
    ring = Ring(images, Counting(), NOTHING, 3)
    assert ring.buffer_bytes == 1030
    passes(ring, [0, 1, 2, 3], 5)
    ring.close()


class Failing(Pending):
    def result(self) -> None:
        raise DamagedCheckpoint("It has become shorter.", "Load it again.")


class FailsOnce(Counting):
    def read(self, extents: Iterable[Extent], memory: memoryview) -> Pending:
        (extent,) = extents
        if extent.start == 2 and 2 not in self.asked:
            self.asked.append(2)
            return Failing(extent, memory)
        return super().read([extent], memory)


def test_a_read_that_fails_is_raised_and_the_next_pass_begins_anew() -> None:
    images = [image(member, 8) for member in range(4)]
    ring = Ring(images, FailsOnce(), NOTHING, 2)
    ring.enter(0)
    ring.enter(1)
    with pytest.raises(DamagedCheckpoint):
        ring.enter(2)
    assert all(bound(images, member) == {HOME} for member in range(4))
    for member in range(4):
        ring.enter(member)
        assert bound(images, member) == {member}
    ring.close()
