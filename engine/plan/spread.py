"""Cutting a row of modules into one stretch per GPU."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

_HALVINGS = 40


def full_before_next(sums: Sequence[int], rooms: Sequence[int]) -> list[int] | None:
    """Where each GPU's stretch ends when each is filled before the next; None where not all fit.

    Args:
        sums: bytes of the first 0, 1, 2 ... modules.
        rooms: of the GPUs, in bytes; one without room is passed over.
    """
    ends = []
    at = 0
    for room in rooms:
        at = max(at, bisect_right(sums, sums[at] + room) - 1)
        ends.append(at)
    return ends if at == len(sums) - 1 else None


def last_full_first(sums: Sequence[int], rooms: Sequence[int]) -> list[int] | None:
    """Where each GPU's stretch ends when the last is filled before the one before it; None likewise."""
    ends = [0] * len(rooms)
    end = len(sums) - 1
    for gpu in reversed(range(len(rooms))):
        ends[gpu] = end
        end = _start(sums, end, max(0, rooms[gpu]))
    return ends if end == 0 else None


def same_share(sums: Sequence[int], rooms: Sequence[int]) -> list[int] | None:
    """Where each GPU's stretch ends when all take about the same share of their room; None where not all fit.

    The last GPU first takes what the smallest common share allows, then those before it likewise, so
    that what cannot be shared evenly is missing on the first GPU, which has the inputs to hold.

    Args:
        sums: bytes of the first 0, 1, 2 ... modules.
        rooms: of the GPUs, in bytes; one without room is passed over.
    """
    if not _fit(sums, rooms, len(sums) - 1, 1.0):
        return None
    ends = [0] * len(rooms)
    end = len(sums) - 1
    for gpu in reversed(range(len(rooms))):
        ends[gpu] = end
        share = _smallest_share(sums, rooms[: gpu + 1], end)
        end = _start(sums, end, share * max(0, rooms[gpu]))
    return ends


def _smallest_share(sums: Sequence[int], rooms: Sequence[int], end: int) -> float:
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _fit(sums, rooms, end, middle):
            high = middle
        else:
            low = middle
    return high


def _fit(sums: Sequence[int], rooms: Sequence[int], end: int, share: float) -> bool:
    for room in reversed(rooms):
        end = _start(sums, end, share * max(0, room))
    return end == 0


def _start(sums: Sequence[int], end: int, room: float) -> int:
    """Where the longest stretch before `end` that fits into `room` begins."""
    return min(end, bisect_left(sums, sums[end] - room, 0, end + 1))
