"""A ring of buffers that is read ahead in the order the modules will be used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

import torch

from engine.hf.tiers.direct import Extent, aligned_memory
from engine.hf.tiers.images import Image, bound_view
from engine.plan.in_place import SLOTS


class Reading(Protocol):
    """Reads into one buffer, under way."""

    def result(self) -> None:
        """Wait for the bytes; raises an EngineError."""

    def drain(self) -> None:
        """Wait until nothing writes to the buffer any more."""


class Reader(Protocol):
    """Queues reads."""

    def read(self, extents: Iterable[Extent], memory: memoryview) -> Reading:
        """Queue the extents of one buffer."""

    def holds(self, extent: Extent) -> bool:
        """Say whether the file is still long enough."""


class Cache(Protocol):
    """Knows what need not be read."""

    def holds(self, extents: Iterable[Extent]) -> bool:
        """Say whether nearly all of these bytes are in RAM."""


def slot_sizes(sizes: Iterable[int], slots: int) -> list[int]:
    """Return the buffers' bytes: as large as the largest modules, so that each finds one that it fits in.

    Args:
        sizes: of the modules.
        slots: buffers wanted; no more than modules are made.
    """
    return sorted(sizes, reverse=True)[:slots]


class _Slot:
    """One buffer, and the views of it that each module's parameters take."""

    def __init__(self, size: int, images: Sequence[Image]) -> None:
        self.bytes = size
        self.memory = aligned_memory(size)
        whole = torch.frombuffer(self.memory, dtype=torch.uint8)
        self.views = [
            [bound_view(whole, view.position, view.home) for view in image.views]
            if image.bytes <= size
            else []
            for image in images
        ]


class _Entry(NamedTuple):
    """One module that is read ahead, or found in RAM: then it has no slot."""

    member: int
    slot: _Slot | None = None
    reading: Reading | None = None


class Ring:
    """Modules in the order of use; one keeps its buffer until it is left or the next is entered."""

    def __init__(
        self,
        images: Sequence[Image],
        reader: Reader,
        cache: Cache,
        slots: int = SLOTS,
        let_go: Callable[[Image], None] = lambda _: None,
    ) -> None:
        """Reserve the buffers; nothing is read before the first `enter`.

        Args:
            images: of the modules, in forward order.
            reader: reads them.
            cache: knows those that are used where they are mapped.
            slots: buffers, at least 2 where there are 2 modules.
            let_go: is told each module that was used where it is mapped.
        """
        self._images = images
        self._reader = reader
        self._cache = cache
        self._let_go = let_go
        self._free = [_Slot(size, images) for size in slot_sizes((i.bytes for i in images), slots)]
        self._depth = len(self._free)
        self.buffer_bytes = sum(slot.bytes for slot in self._free)
        self._ahead: deque[_Entry] = deque()
        self._used: _Entry | None = None
        self._last = len(images) - 1
        self._seen: dict[int, int] = {}
        self._after = {index: (index + 1) % len(images) for index in range(len(images))}

    def begin(self) -> None:
        """Start to read where nothing is read ahead: a pass begins, and modules in RAM may come first."""
        if self._used is None and not self._ahead and self._images:
            self._last = len(self._images) - 1
            self._read_ahead()

    def enter(self, index: int) -> None:
        """Bind one module's weights, and go on reading what follows it; raises what reading raised."""
        self._release()
        self._learn(index)
        if not self._ahead or self._ahead[0].member != index:
            self.rest()
            self._queue(index)
        self._read_ahead()
        self._used = entry = self._ahead.popleft()
        try:
            _bind(entry, self._images[index])
        except BaseException:
            self.rest()
            raise

    def leave(self) -> None:
        """Take the weights of the module in use away again, and read on into its buffer."""
        self._release()
        self._read_ahead()

    def rest(self) -> None:
        """Stop reading, and leave nothing that writes to a buffer, and nothing bound to one."""
        self._release()
        while self._ahead:
            self._give_back(self._ahead.popleft())

    def close(self) -> None:
        """Rest, and give the buffers back."""
        self.rest()
        self._free.clear()

    def _release(self) -> None:
        if self._used is not None:
            entry, self._used = self._used, None
            for view in self._images[entry.member].views:
                view.parameter.data = view.home
            if entry.slot is None:
                self._let_go(self._images[entry.member])
            self._give_back(entry)

    def _give_back(self, entry: _Entry) -> None:
        if entry.reading is not None:
            entry.reading.drain()
        if entry.slot is not None:
            self._free.append(entry.slot)

    def _learn(self, index: int) -> None:
        """Expect what came after a module twice in a row; a single surprise may be a cancel."""
        if self._seen.get(self._last) == index:
            self._after[self._last] = index
        self._seen[self._last] = index
        self._last = index

    def _read_ahead(self) -> None:
        last = self._ahead[-1].member if self._ahead else self._last
        while len(self._ahead) < self._depth and self._queue(self._after[last]):
            last = self._ahead[-1].member

    def _queue(self, index: int) -> bool:
        """Begin to read a module; False where no free buffer is large enough."""
        image = self._images[index]
        if self._cache.holds(image.extents) and all(map(self._reader.holds, image.extents)):
            self._ahead.append(_Entry(index))
            return True
        fitting = [slot for slot in self._free if slot.bytes >= image.bytes]
        if not fitting:
            return False
        slot = min(fitting, key=lambda slot: slot.bytes)
        self._ahead.append(_Entry(index, slot, self._reader.read(image.extents, slot.memory)))
        self._free.remove(slot)
        return True


def _bind(entry: _Entry, image: Image) -> None:
    if entry.slot is None or entry.reading is None:
        return
    entry.reading.result()
    for view, tensor in zip(image.views, entry.slot.views[entry.member], strict=True):
        view.parameter.data = tensor
