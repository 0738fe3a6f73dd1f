"""Weights that rest in RAM, read in file order into memory of their own while the model is built.

Reading begins without torch: it is imported when there is something to bind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from engine.checkpoint import StoredTensor
from engine.hf.tiers.direct import FileReader, Read, aligned_memory, give_back
from engine.hf.tiers.layout import Layout
from engine.hf.tiers.residency import PageCache
from engine.plan.in_place import KEPT_SHARE
from engine.values import LoadStage

if TYPE_CHECKING:
    import torch

    from engine.hf.progress import Progress
    from engine.hf.protocols import CausalModel

POLL_SECONDS = 0.05
"""How often a cancel is looked for."""
PATIENCE_SECONDS = 0.05
"""That a cancel waits for the disk."""
PART_BYTES = 32 << 20
"""That one reader reads at once: small, so that none is left with much when the others are done."""
LONG_PART_BYTES = 128 << 20
"""Where readers wait long for their turn."""


class _Slab(NamedTuple):
    """What one file gives, in memory.

    Attributes:
        layout: of the bytes.
        memory: that holds them.
        reading: what brings them.
    """

    layout: Layout
    memory: memoryview
    reading: Read


class Slabs:
    """Reads begin at once; `bind` is called when the model is there. One thread at a time.

    A file that lies in the page cache is not read but used where it is mapped, unless RAM is scarce:
    mapped pages are the first that the kernel drops then, so that they are copied.

    Attributes:
        tensors: that rest in RAM.
        is_scarce: other weights had to stay on the disk.
        total_bytes: of all that is wanted.
        mapped_files: that are not read.
    """

    def __init__(
        self, tensors: Iterable[StoredTensor], *, is_scarce: bool, patience: float = PATIENCE_SECONDS
    ) -> None:
        """Queue the reads.

        Args:
            tensors: that rest in RAM, in the order of the files.
            is_scarce: other weights had to stay on the disk.
            patience: of the readers, see FileReader.
        """
        self.tensors = tensors = tuple(tensors)
        self.is_scarce = is_scarce
        self._wanted = {(tensor.file, tensor.start) for tensor in tensors}
        cache = PageCache()
        layouts = [_layout(group) for _, group in groupby(tensors, key=lambda tensor: tensor.file)]
        part = PART_BYTES if patience <= PATIENCE_SECONDS else LONG_PART_BYTES
        self._direct = FileReader(part_bytes=part, patience=patience)
        self._plain = FileReader(is_direct=False, part_bytes=part, patience=patience)
        cached = [cache.holds(layout.extents) for layout in layouts]
        cache.close()
        self.total_bytes = sum(extent.length for layout in layouts for extent in layout.extents)
        self._slabs = [
            _begun(layout, self._plain if is_cached else self._direct)
            for layout, is_cached in zip(layouts, cached, strict=True)
            if is_scarce or not is_cached
        ]
        self.mapped_files = frozenset(
            layout.extents[0].file
            for layout, is_cached in zip(layouts, cached, strict=True)
            if is_cached and not is_scarce
        )
        self._mapped_bytes = self.total_bytes - sum(_wanted_bytes(slab) for slab in self._slabs)

    @property
    def is_reading(self) -> bool:
        """Some of it is not used where it is mapped."""
        return bool(self._slabs)

    @property
    def done_bytes(self) -> int:
        """How much is in RAM."""
        return self._mapped_bytes + sum(slab.reading.done_bytes for slab in self._slabs)

    def serves(self, tensors: Iterable[StoredTensor], *, is_scarce: bool) -> bool:
        """Say whether these tensors, and next to nothing else, are what is read."""
        wanted = tuple(tensors)
        more = sum(t.bytes for t in self.tensors) - sum(t.bytes for t in wanted)
        is_little = more <= KEPT_SHARE * self.total_bytes
        return is_little and is_scarce == self.is_scarce and set(wanted) <= set(self.tensors)

    def hurry(self) -> None:
        """Let readers look for a stop more often: nothing else keeps Python's lock for long any more."""
        self._direct.patience = self._plain.patience = PATIENCE_SECONDS

    def begin(self, progress: Progress) -> None:
        """Tell that reading has begun; raises LoadCancelled."""
        progress.begin(LoadStage.READ, self.total_bytes)

    def wait(self, progress: Progress) -> None:
        """Wait for the bytes.

        Raises:
            LoadCancelled: the person stopped it; noticed within POLL_SECONDS.
            DamagedCheckpoint: a file has become shorter.
            EngineFault: the disk failed.
        """
        for slab in self._slabs:
            while not slab.reading.wait(POLL_SECONDS):
                progress.reach(self.done_bytes)
            slab.reading.result()
        progress.reach(self.total_bytes)

    def bind(self, model: CausalModel) -> None:
        """Let what is a view of a file become a view of what was read of it: parameters and buffers."""
        from engine.hf.mapped import mapped_regions
        from engine.hf.tiers.images import place_of

        if not self.is_reading:
            return
        regions = mapped_regions()
        for tensor in _tensors(model):
            place = place_of(tensor, regions)
            if place in self._wanted and (bound := self._find(tensor, *place)) is not None:
                tensor.data = bound

    def close(self) -> None:
        """End the threads; whatever is not bound is given back."""
        self._direct.stop()
        self._plain.stop()
        for slab in self._slabs:
            slab.reading.drain()
        self._slabs.clear()
        self._direct.close()
        self._plain.close()

    def bytes_of(self, tensor: StoredTensor) -> memoryview | None:
        """What is read of a tensor; None where it is used where it is mapped."""
        for slab in self._slabs:
            position = slab.layout.position(tensor.file, tensor.start)
            if position is not None:
                return slab.memory[position : position + tensor.bytes]
        return None

    def release(self, tensor: StoredTensor, start: int, end: int) -> None:
        """Give back the memory of these bytes of a tensor, which nobody reads any more."""
        for slab in self._slabs:
            position = slab.layout.position(tensor.file, tensor.start)
            if position is not None:
                give_back(slab.memory, position + start, position + end)

    def holds(self, tensors: Iterable[torch.Tensor], mapped: Iterable[tuple[int, int]] = ()) -> bool:
        """Say whether all tensors are views of what was read, or lie between mapped (first, end)."""
        import torch

        starts = [torch.frombuffer(slab.memory, dtype=torch.uint8).data_ptr() for slab in self._slabs]
        read = ((start, start + len(slab.memory)) for start, slab in zip(starts, self._slabs, strict=True))
        spans = [*mapped, *read]
        addresses = [tensor.data_ptr() for tensor in tensors]
        return all(any(start <= address < end for start, end in spans) for address in addresses)

    def _find(self, tensor: torch.Tensor, file: Path, start: int) -> torch.Tensor | None:
        import torch

        from engine.hf.tiers.images import bound_view

        for slab in self._slabs:
            position = slab.layout.position(file, start)
            if position is not None:
                return bound_view(torch.frombuffer(slab.memory, dtype=torch.uint8), position, tensor)
        return None


def _layout(tensors: Iterable[StoredTensor]) -> Layout:
    return Layout((tensor.file, tensor.start, tensor.bytes) for tensor in tensors)


def _begun(layout: Layout, reader: FileReader) -> _Slab:
    memory = aligned_memory(layout.bytes)
    return _Slab(layout, memory, reader.read(layout.extents, memory))


def _wanted_bytes(slab: _Slab) -> int:
    return sum(extent.length for extent in slab.layout.extents)


def _tensors(model: CausalModel) -> Iterator[torch.Tensor]:
    yield from model.parameters()
    for _, buffer in model.named_buffers():
        yield buffer
