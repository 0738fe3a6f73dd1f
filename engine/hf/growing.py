"""Cache layers that append in place: room is made in steps, and a crop only moves the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

STEP_TOKENS = 256
SPARE_TOKENS = 128


class Shape(NamedTuple):
    """What one token takes in one layer."""

    batch: int
    heads: int
    key_width: int
    value_width: int
    dtype: torch.dtype
    device: torch.device


class Reserved(NamedTuple):
    """Where a layer's tokens lie, and its next ones will.

    Attributes:
        keys: [batch, heads, capacity, width], contiguous.
        values: likewise.
        start: the first token that still counts.
        length: how many there are.
    """

    keys: torch.Tensor
    values: torch.Tensor
    start: int
    length: int


class GrowingLayer(DynamicLayer):  # type: ignore[misc]  # transformers has no types
    """Keys and values of a layer that attends to everything."""

    def __init__(self, most_tokens: int = 0) -> None:
        """Start empty.

        Args:
            most_tokens: that are foreseen: up to here no room is made beyond them; 0 where nobody knows.
        """
        self._most_tokens = most_tokens
        self._forget()
        super().__init__()

    def _forget(self) -> None:
        self._rooms: tuple[torch.Tensor, torch.Tensor] | None = None
        self._start = 0
        self._length = 0

    @property
    def keys(self) -> torch.Tensor | None:
        """Keys [batch, heads, tokens, width]: a view."""
        return self._view(0)

    @keys.setter
    def keys(self, nothing: None) -> None:
        """The base class empties itself so."""

    @property
    def values(self) -> torch.Tensor | None:
        """Values [batch, heads, tokens, width]: a view."""
        return self._view(1)

    @values.setter
    def values(self, nothing: None) -> None:
        """The base class empties itself so."""

    def _view(self, which: int) -> torch.Tensor | None:
        if self._rooms is None:
            return None
        return self._rooms[which][:, :, self._start : self._start + self._length]

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:  # noqa: ARG002 -- the base's signature
        """Take the device and dtype of the first keys and values."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self.is_initialized = True

    def get_seq_length(self) -> int:
        """Return how many tokens were seen and not cropped."""
        return self._length

    def reset(self) -> None:
        """Forget everything and give the memory back."""
        self._forget()
        super().reset()

    def crop(self, tokens_to_remove: int) -> None:
        """Remove the last tokens; the number is negative, as transformers wants it."""
        if tokens_to_remove > 0:
            raise ValueError("only negative numbers say how many tokens to remove")
        self._length = max(0, self._length + tokens_to_remove)

    def saved(self) -> dict[str, object]:
        """Copy what cropping does not bring back, for `restore`."""
        return {"seen": self.get_seq_length()}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Hold again what was held then, whatever was appended since; of copies, another one is made."""
        self._length = saved["seen"]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append keys and values [batch, heads, tokens, width] and return all that the new tokens may see."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        batch, heads, new, key_width = key_states.shape
        shape = Shape(batch, heads, key_width, value_states.shape[3], self.dtype, self.device)
        keys, values, begin, length = self.reserve(shape, new)
        end = begin + length + new
        keys[:, :, end - new : end], values[:, :, end - new : end] = key_states, value_states
        self.advance(new)
        return keys[:, :, begin:end], values[:, :, begin:end]

    def reserve(self, shape: Shape, new: int) -> Reserved:
        """Make room for more tokens, and say where it is: until the next call, it stays there.

        Args:
            shape: of one token.
            new: how many.
        """
        if self._rooms is None or self._start + self._length + new > self._rooms[0].shape[2]:
            self._rooms, self._start = self._make_room(shape, self._length + new), 0
        return Reserved(*self._rooms, self._start, self._length)

    def advance(self, new: int) -> None:
        """Say that tokens were written into the room that was reserved."""
        self._length += new

    def _make_room(self, shape: Shape, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Move what there is into a room of whole steps, with half a step to spare at least."""
        self.dtype, self.device, self.is_initialized = shape.dtype, shape.device, True
        capacity = self._capacity(tokens)
        keys = _moved(self.keys, shape, shape.key_width, capacity)
        values = _moved(self.values, shape, shape.value_width, capacity)
        return keys, values

    def _capacity(self, tokens: int) -> int:
        steps = -(-(tokens + SPARE_TOKENS) // STEP_TOKENS) * STEP_TOKENS
        return max(tokens, min(steps, self._most_tokens or steps))


class GrowingWindowLayer(GrowingLayer, DynamicSlidingWindowLayer):  # type: ignore[misc]  # transformers has no types
    """The same for a sliding window: tokens that left it are passed over, and dropped for want of room."""

    is_sliding = True
    cumulative_length: int

    def __init__(self, sliding_window: int, most_tokens: int = 0) -> None:
        """Start empty.

        Args:
            sliding_window: tokens that one sees, itself among them.
            most_tokens: that are foreseen; 0 where nobody knows.
        """
        self._most_tokens = most_tokens
        self._forget()
        DynamicSlidingWindowLayer.__init__(self, sliding_window)

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Take the device and dtype of the first keys and values."""
        GrowingLayer.lazy_initialization(self, key_states, value_states)

    def get_seq_length(self) -> int:
        """Return how many tokens were seen and not cropped."""
        return int(self.cumulative_length)

    def crop(self, tokens_to_remove: int) -> None:
        """Remove the last tokens.

        Raises:
            RuntimeError: what the window showed then was forgotten.
        """
        if tokens_to_remove and self.cumulative_length >= self.sliding_window:
            raise RuntimeError("a window that has filled cannot be cropped")
        super().crop(tokens_to_remove)
        self.cumulative_length = self._length

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *rest: object, **more: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append, and return all that the new tokens may see; of many tokens, only what stays is kept."""
        if key_states.shape[2] <= SPARE_TOKENS:
            return super().update(key_states, value_states, *rest, **more)
        seen = self.cumulative_length + key_states.shape[2]
        keys, values = _joined(self.keys, key_states), _joined(self.values, value_states)
        first = max(0, keys.shape[2] - self.sliding_window + 1)
        self._rooms, self._start, self._length = None, 0, 0
        super().update(keys[:, :, first:], values[:, :, first:])
        self.cumulative_length = seen
        return keys, values

    def _capacity(self, tokens: int) -> int:
        window: int = self.sliding_window
        return max(tokens, min(super()._capacity(tokens), window + SPARE_TOKENS))

    def advance(self, new: int) -> None:
        """Say that tokens were written into the room; the window moves with them."""
        self._length += new
        self.cumulative_length += new
        out = self._length - self.sliding_window + 1
        if out > 0:
            self._start += out
            self._length -= out

    def saved(self) -> dict[str, object]:
        """Copy the window, for `restore`."""
        if self.keys is None or self.values is None:
            return super().saved()
        return {**super().saved(), "keys": self.keys.clone(), "values": self.values.clone()}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Hold again what was saved, of which a copy is made."""
        keys, values = saved.get("keys"), saved.get("values")
        self._rooms, self._start, self._length = None, 0, 0
        if keys is not None and values is not None:
            self.update(keys, values)
        self.cumulative_length = saved["seen"]


def _joined(old: torch.Tensor | None, new: torch.Tensor) -> torch.Tensor:
    return new if old is None else torch.cat([old, new], dim=2)


def _moved(old: torch.Tensor | None, shape: Shape, width: int, capacity: int) -> torch.Tensor:
    """Return a room for `capacity` tokens that begins with the old ones [batch, heads, tokens, width]."""
    room = torch.empty(shape.batch, shape.heads, capacity, width, dtype=shape.dtype, device=shape.device)
    if old is not None:
        room[:, :, : old.shape[2]] = old
    return room
