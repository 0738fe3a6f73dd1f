"""A link of fixed bandwidth in virtual time: two streams and a host, and a record of every read and write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Span(NamedTuple):
    """A buffer was written with a layer, or read as one, in virtual seconds."""

    buffer: int
    layer: int
    start: float
    end: float


class FakeLink:
    """Times every order as a GPU would: in stream order, and not before the host has given it."""

    def __init__(self, sizes: Mapping[int, int], bandwidth: float, buffers: int) -> None:
        """Start at zero seconds.

        Args:
            sizes: bytes of each layer.
            bandwidth: bytes a second.
            buffers: how many there are.
        """
        self._sizes = sizes
        self._bandwidth = bandwidth
        self._ready = [0.0] * buffers
        self._released = [0.0] * buffers
        self._copied_until = 0.0
        self._computed_until = 0.0
        self.host = 0.0
        self.writes: list[Span] = []
        self.reads: list[Span] = []

    def copy(self, layer: int, buffer: int) -> None:
        start = max(self.host, self._copied_until, self._released[buffer])
        end = start + self._sizes[layer] / self._bandwidth
        self._copied_until = self._ready[buffer] = end
        self.writes.append(Span(buffer, layer, start, end))

    def wait(self, buffer: int) -> None:
        self._computed_until = max(self._computed_until, self._ready[buffer])

    def release(self, buffer: int) -> None:
        self._released[buffer] = max(self.host, self._computed_until)

    def compute(self, seconds: float, layer: int = -1, buffer: int = -1) -> None:
        """Compute a layer out of a buffer, or a resident one."""
        start = max(self.host, self._computed_until)
        self._computed_until = start + seconds
        if buffer >= 0:
            self.reads.append(Span(buffer, layer, start, self._computed_until))

    def synchronize(self) -> float:
        """Let the host wait for what was computed; return the time."""
        self.host = max(self.host, self._computed_until)
        return self.host

    def violations(self) -> int:
        """Count the reads of a buffer that did not hold the whole of their layer from start to end."""
        return sum(not self._held(read) for read in self.reads)

    def _held(self, read: Span) -> bool:
        writes = [write for write in self.writes if write.buffer == read.buffer]
        before = [write for write in writes if write.end <= read.start]
        during = [write for write in writes if write.end > read.start and write.start < read.end]
        return bool(before) and before[-1].layer == read.layer and not during
