"""The KV cache between turns: what is in it is known token for token, and reused as far as it agrees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from engine.hf.copied import copied
from engine.hf.growing import GrowingLayer
from engine.hf.growing_cache import grow_in_place
from engine.hf.protocols import CacheLayer

KEPT_STATES = 2
GROWING = {"keys", "values"}


class KeptState(NamedTuple):
    """What the layers that cannot be cropped held after `length` tokens, per layer index."""

    length: int
    layers: dict[int, dict[str, object]]


class KVCache:
    """One conversation's cache and the ids of exactly the tokens that are in it.

    Layers that only grow are cropped. Layers that forget (sliding windows, linear attention) go back
    to a kept state; without one that agrees, everything is computed again.
    """

    def __init__(self, config: object, *, in_place: bool = True) -> None:
        """Start empty.

        Args:
            config: the model's configuration; it names the kind of each layer.
            in_place: append to memory of our own; else as transformers does, which copies each time.
        """
        self._config = config
        self._in_place = in_place
        self._most_tokens = 0
        self.drop()

    def foresee(self, tokens: int) -> None:
        """Start anew, for no more than so many tokens."""
        self._most_tokens = tokens
        self.drop()

    def drop(self) -> None:
        """Forget everything and give the memory back."""
        self.cache = DynamicCache(config=self._config)
        if self._in_place:
            grow_in_place(self.cache, self._most_tokens)
        self.token_ids: list[int] = []
        self._kept: list[KeptState] = []
        self._whole = True

    def reuse(self, token_ids: Sequence[int]) -> int:
        """Keep what agrees with a new prompt and return its length, always less than the prompt's."""
        common = min(common_prefix(self.token_ids, token_ids), len(token_ids) - 1)
        if not self._whole or not self._go_back(common):
            self.drop()
        return len(self.token_ids)

    def keep_state(self) -> None:
        """Remember the layers that cannot be cropped as they are now."""
        layers = {i: _state(layer) for i, layer in enumerate(self.cache.layers) if _may_forget(layer)}
        if layers and all(kept.length != len(self.token_ids) for kept in self._kept):
            self._kept = [*self._kept, KeptState(len(self.token_ids), layers)][-KEPT_STATES:]

    def begin(self) -> None:
        """Say that a forward is under way: until `extend`, the cache's content is not known."""
        self._whole = False

    def extend(self, token_ids: Sequence[int]) -> None:
        """Say that a forward has added these tokens."""
        self.token_ids.extend(token_ids)
        self._whole = True

    def take_back(self, tokens: int) -> None:
        """Forget the last tokens, of a cache that does not forget by itself."""
        self._crop(len(self.token_ids) - tokens, {})

    def mend(self) -> None:
        """Undo a forward that was left between two layers; layers that forget go back to the last kept state.

        Where there is none, the next prompt is computed from its first token on.
        """
        if self._whole:
            return
        if not self.forgets:
            self._crop(len(self.token_ids), {})
        elif self._kept:
            self._crop(*self._kept[-1])
        else:
            return
        self._whole = True

    @property
    def forgets(self) -> bool:
        """True when some layer cannot be cropped to any length."""
        return any(map(_may_forget, self.cache.layers))

    def bytes_by_device(self) -> dict[torch.device, int]:
        """Return the bytes held on each device, kept states included."""
        sizes: dict[torch.device, int] = {}
        kept = (state for entry in self._kept for state in entry.layers.values())
        for held in (*(vars(layer) for layer in self.cache.layers), *kept):
            for tensor in _tensors(held):
                sizes[tensor.device] = sizes.get(tensor.device, 0) + tensor.nbytes
        return sizes

    def _go_back(self, length: int) -> bool:
        """Make the cache hold at most the first `length` tokens; False when it cannot."""
        if length == len(self.token_ids):
            return True
        if all(_can_crop(layer) for layer in self.cache.layers):
            self._crop(length, {})
            return True
        fitting = [kept for kept in self._kept if kept.length <= length]
        if fitting:
            self._crop(fitting[-1].length, fitting[-1].layers)
        self._kept = fitting
        return bool(fitting)

    @torch.inference_mode()
    def _crop(self, length: int, states: dict[int, dict[str, object]]) -> None:
        """Cut every layer to `length` tokens; those with a kept state take it."""
        for index, layer in enumerate(self.cache.layers):
            if index not in states:
                _shorten(layer, length)
            elif isinstance(layer, GrowingLayer):
                layer.restore(states[index])
            else:
                if _grows(layer) and (surplus := layer.get_seq_length() - length) > 0:
                    layer.keys = layer.keys[..., :-surplus, :]
                    layer.values = layer.values[..., :-surplus, :]
                vars(layer).update(copied(states[index]))
        del self.token_ids[length:]


def _shorten(layer: CacheLayer, length: int) -> None:
    """Cut a layer of keys and values, where it is longer."""
    surplus = layer.get_seq_length() - length if isinstance(layer, DynamicLayer) else 0
    if surplus > 0 and layer.is_initialized:
        layer.crop(-surplus)


def common_prefix(left: Sequence[object], right: Sequence[object]) -> int:
    """Return how many leading items are the same."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((at for at, (one, other) in pairs if one != other), min(len(left), len(right)))


def _grows(layer: CacheLayer) -> bool:
    """Keys and values are appended to and never forgotten."""
    return isinstance(layer, DynamicLayer) and not layer.is_sliding and layer.is_initialized


def _may_forget(layer: CacheLayer) -> bool:
    """Beyond some length, cropping cannot bring back what the layer held."""
    return not isinstance(layer, DynamicLayer) or layer.is_sliding or hasattr(layer, "conv_states")


def _can_crop(layer: CacheLayer) -> bool:
    """The layer can be cropped as it is now: a window that has not filled holds everything."""
    if not any(True for _ in _tensors(vars(layer))) or not _may_forget(layer):
        return True
    filled = not isinstance(layer, DynamicLayer) or hasattr(layer, "conv_states")
    return not filled and layer.get_seq_length() < layer.sliding_window


@torch.inference_mode()
def _state(layer: CacheLayer) -> dict[str, object]:
    """Copy what the layer holds, without the keys and values that cropping brings back."""
    if isinstance(layer, GrowingLayer):
        return layer.saved()
    left_out = GROWING if _grows(layer) else set()
    return copied({name: value for name, value in vars(layer).items() if name not in left_out})


def _tensors(value: object) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item)
