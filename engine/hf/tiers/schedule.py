"""Which streamed layer is copied into which device buffer, and when. Arithmetic only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Link(Protocol):
    """The way from RAM to the device: a stream of copies beside the stream that computes.

    Every call returns at once; what it orders happens in the order of its stream.
    """

    def copy(self, layer: int, buffer: int) -> None:
        """Copy a layer's weights into a buffer, as soon as the buffer's last release is reached."""

    def wait(self, buffer: int) -> None:
        """Let what is computed from now on wait for the buffer's last copy."""

    def release(self, buffer: int) -> None:
        """Mark that what was computed so far is all that reads the buffer's present content."""


class Cost(NamedTuple):
    """One layer of a pass, in seconds.

    Attributes:
        compute: on the device.
        copy: over the link; 0 for a resident layer.
    """

    compute: float
    copy: float = 0.0


class StreamSchedule:
    """Keeps the layers that are needed next in the buffers.

    The layers are entered in a cyclic order, token after token. Any other layer may be entered at any
    time (a forward was left halfway, a prompt begins anew): it is copied, and the reading ahead goes
    on from there. A buffer whose layer is computing is never written.
    """

    def __init__(self, order: Sequence[int], buffers: int, link: Link) -> None:
        """Begin with empty buffers.

        Args:
            order: the streamed layers in forward order, each once.
            buffers: how many the link has; two suffice.
            link: does what is decided here.
        """
        self._holds: list[int | None] = [None] * buffers
        self._in_use: int | None = None
        self._link = link
        self.follow(order)

    def follow(self, order: Sequence[int]) -> None:
        """Expect this cyclic order from the next layer on."""
        self._order = tuple(order)
        self._place = {layer: place for place, layer in enumerate(self._order)}

    def begin(self) -> None:
        """Copy the first layers before anything asks for them."""
        self._fill(self._from(0))

    def enter(self, layer: int) -> int:
        """Make a layer's weights ready for what is computed from now on, and return its buffer.

        Args:
            layer: one of the order.
        """
        self._release()
        self._fill(self._from(self._place[layer]))
        buffer = self._holds.index(layer)
        self._link.wait(buffer)
        self._in_use = buffer
        return buffer

    def leave(self) -> None:
        """Give up the buffer of the layer that was entered last, and read ahead."""
        if self._in_use is None:
            return
        layer = self._holds[self._in_use]
        self._release()
        if layer in self._place:
            self._fill(self._from(self._place[layer] + 1))

    def _release(self) -> None:
        """Also ends the use of a layer whose forward was left halfway."""
        if self._in_use is not None:
            self._link.release(self._in_use)
            self._in_use = None

    def _from(self, place: int) -> list[int]:
        """Return the layers that are needed next, as many as there are buffers."""
        count = min(len(self._holds), len(self._order))
        return [self._order[(place + ahead) % len(self._order)] for ahead in range(count)]

    def _fill(self, wanted: Sequence[int]) -> None:
        """Copy what is wanted and not held, nearest first, over what is not wanted."""
        spare = [buffer for buffer, layer in enumerate(self._holds) if layer not in wanted]
        missing = [layer for layer in wanted if layer not in self._holds]
        for layer, buffer in zip(missing, spare, strict=False):
            self._link.copy(layer, buffer)
            self._holds[buffer] = layer


def spread_evenly(layers: int, streamed: int) -> tuple[int, ...]:
    """Return which of `layers` to stream so that the same number of resident ones lies between them."""
    return tuple((2 * place + 1) * layers // (2 * streamed) for place in range(streamed))


def ideal_seconds(costs: Sequence[Cost]) -> float:
    """Return the least seconds of one pass in a long row of them: link and device never wait.

    Args:
        costs: of the layers of one pass.
    """
    return max(sum(cost.compute for cost in costs), sum(cost.copy for cost in costs))
