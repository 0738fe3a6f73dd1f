"""Cache layers that append in place: room is made in steps, and a crop only moves the end."""

from __future__ import annotations

from typing import NamedTuple

import torch
from transformers.cache_utils import Cache, DynamicLayer, DynamicSlidingWindowLayer

from engine.hf.native.library import Room

STEP_TOKENS = 256


class Shape(NamedTuple):
    """What one token takes in one layer."""

    batch: int
    heads: int
    key_width: int
    value_width: int
    dtype: torch.dtype
    device: torch.device


class GrowingLayer(DynamicLayer):  # type: ignore[misc]  # transformers has no types
    """Keys and values of a layer that attends to everything.

    Attributes:
        native: where they lie, for the kernels; up to date after `reserve`.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._forget()
        super().__init__()

    def _forget(self) -> None:
        self._rooms: tuple[torch.Tensor, torch.Tensor] | None = None
        self._start = 0
        self._length = 0
        self.native = Room()

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
        return (
            None
            if self._rooms is None
            else self._rooms[which][:, :, self._start : self._start + self._length]
        )

    def suits(self, dtype: torch.dtype) -> bool:
        """What is in it, if anything, is of this dtype and in RAM."""
        return self._rooms is None or (self._rooms[0].dtype == dtype and self._rooms[0].device.type == "cpu")

    @property
    def nbytes(self) -> int:
        """Bytes of the room, used or not."""
        return 0 if self._rooms is None else sum(room.nbytes for room in self._rooms)

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

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append keys and values [batch, heads, tokens, width] and return all that the new tokens may see."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        batch, heads, new, key_width = key_states.shape
        self.reserve(Shape(batch, heads, key_width, value_states.shape[3], self.dtype, self.device), new)
        begin, end = self._start, self._start + self._length + new
        seen = []
        for room, states in zip(self._rooms or (), (key_states, value_states), strict=True):
            room[:, :, end - new : end] = states
            seen.append(room[:, :, begin:end])
        self.advance(new)
        return seen[0], seen[1]

    def reserve(self, shape: Shape, new: int) -> None:
        """Make room for more tokens.

        Args:
            shape: of one token.
            new: how many.
        """
        if self._rooms is None or self._start + self._length + new > self._rooms[0].shape[2]:
            self._make_room(shape, self._length + new)
        self.native.length = self._length

    def advance(self, new: int) -> None:
        """Say that tokens were written into the room that was reserved."""
        self._length += new

    def _make_room(self, shape: Shape, tokens: int) -> None:
        """Move what there is into a room of whole steps, with half a step to spare at least."""
        old_keys, old_values = self.keys, self.values
        capacity = -(-(tokens + STEP_TOKENS // 2) // STEP_TOKENS) * STEP_TOKENS
        rooms = tuple(
            torch.empty(shape.batch, shape.heads, capacity, width, dtype=shape.dtype, device=shape.device)
            for width in (shape.key_width, shape.value_width)
        )
        for room, old in zip(rooms, (old_keys, old_values), strict=True):
            if old is not None:
                room[:, :, : self._length] = old
        self._rooms, self._start = (rooms[0], rooms[1]), 0
        self._describe()

    def _describe(self) -> None:
        if self._rooms is not None:
            keys, values = self._rooms
            self.native.keys = keys.data_ptr() + self._start * keys.shape[3] * keys.element_size()
            self.native.values = values.data_ptr() + self._start * values.shape[3] * values.element_size()
            self.native.capacity = keys.shape[2]


class GrowingWindowLayer(GrowingLayer, DynamicSlidingWindowLayer):  # type: ignore[misc]  # transformers has no types
    """The same for a sliding window: tokens that left it are passed over, and dropped for want of room."""

    is_sliding = True
    cumulative_length: int

    def __init__(self, sliding_window: int) -> None:
        """Start empty.

        Args:
            sliding_window: tokens that one sees, itself among them.
        """
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

    def advance(self, new: int) -> None:
        """Say that tokens were written into the room; the window moves with them."""
        self._length += new
        self.cumulative_length += new
        out = self._length - self.sliding_window + 1
        if out > 0:
            self._start += out
            self._length -= out
            self._describe()


def grow_in_place(cache: Cache) -> None:
    """Exchange a fresh cache's layers that copy themselves at every token."""
    for index, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer:
            cache.layers[index] = GrowingLayer()
        elif type(layer) is DynamicSlidingWindowLayer:
            cache.layers[index] = GrowingWindowLayer(layer.sliding_window)
