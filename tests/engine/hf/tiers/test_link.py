"""The GPU's link gives its orders to the driver in the right order, and locks exactly its blocks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import torch

from engine.hf.tiers.blob import host_block
from engine.hf.tiers.link import PORTABLE, CudaLink

REFUSED = 712


class Driver:
    """Stands in for CUDA: notes what it is told, and copies at once."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []
        self.answer = 0

    def cudaHostRegister(self, address: int, nbytes: int, flags: int) -> int:  # noqa: N802 - the driver's name
        self.told.append(("lock", address, nbytes, flags))
        return self.answer

    def cudaHostUnregister(self, address: int) -> int:  # noqa: N802 - likewise
        self.told.append(("unlock", address))
        return 0


class Event:
    count = 0

    def __init__(self) -> None:
        Event.count += 1
        self.number = Event.count

    def record(self, stream: Stream) -> None:
        stream.driver.told.append((stream.name, "record", self.number))


class Stream:
    def __init__(self, driver: Driver, name: str) -> None:
        self.driver = driver
        self.name = name

    def wait_event(self, event: Event) -> None:
        self.driver.told.append((self.name, "wait", event.number))

    def wait_stream(self, other: Stream) -> None:
        self.driver.told.append((self.name, "wait for", other.name))


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    driver = Driver()
    Event.count = 0
    computing = Stream(driver, "computing")

    @contextlib.contextmanager
    def on(stream: Stream) -> Iterator[None]:
        driver.told.append(("on", stream.name))
        yield

    monkeypatch.setattr(torch.cuda, "Stream", lambda _: Stream(driver, "copies"))
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: computing)
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(torch.cuda, "cudart", lambda: driver)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: driver.told.append(("synchronize",)))
    return driver


def held(link: CudaLink, nbytes: int) -> torch.Tensor:
    block = host_block(nbytes).fill_(7)
    link.hold(0, block)
    return block


def test_a_copy_waits_for_the_release_and_the_computing_for_the_copy(driver: Driver) -> None:
    buffers = [torch.zeros(8, dtype=torch.uint8) for _ in range(2)]
    link = CudaLink(buffers)  # events 1 and 2: copied, 3 and 4: released
    held(link, 5)
    driver.told.clear()
    link.copy(0, 1)
    link.wait(1)
    link.release(1)
    assert driver.told == [
        ("on", "copies"),
        ("copies", "wait", 4),
        ("copies", "record", 2),
        ("computing", "wait", 2),
        ("computing", "record", 4),
    ]
    assert buffers[1].tolist() == [7] * 5 + [0] * 3
    assert not buffers[0].any()


def test_the_first_copies_wait_for_whoever_had_the_buffers_memory(driver: Driver) -> None:
    CudaLink([torch.zeros(8, dtype=torch.uint8)])
    assert driver.told == [("copies", "wait for", "computing")]


def test_exactly_the_block_is_locked_and_unlocked_when_all_is_done(driver: Driver) -> None:
    link = CudaLink([torch.zeros(5001, dtype=torch.uint8)])
    address = held(link, 5001).data_ptr()
    link.close()
    link.close()
    assert [told for told in driver.told if told[0] == "lock"] == [("lock", address, 5001, PORTABLE)]
    assert driver.told[-3:] == [("synchronize",), ("unlock", address), ("synchronize",)]


def test_where_the_driver_refuses_the_copy_still_is_right(
    driver: Driver, caplog: pytest.LogCaptureFixture
) -> None:
    driver.answer = REFUSED
    buffers = [torch.zeros(5, dtype=torch.uint8)]
    link = CudaLink(buffers)
    held(link, 5)
    link.copy(0, 0)
    link.close()
    assert buffers[0].tolist() == [7] * 5
    assert "slowly" in caplog.text
    assert all(told[0] != "unlock" for told in driver.told)
