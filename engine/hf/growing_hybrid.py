"""Layers of attention beside linear attention: keys and values append in place, states are transformers'."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from transformers.cache_utils import LinearAttentionAndFullAttentionLayer, LinearAttentionLayer

from engine.hf.copied import copied
from engine.hf.growing import GrowingLayer, GrowingWindowLayer

_FIELDS = frozenset(vars(LinearAttentionLayer()))
_SHARED = frozenset(("dtype", "device"))
"""They describe the keys and values, too."""


class GrowingHybridLayer(GrowingLayer, LinearAttentionAndFullAttentionLayer):  # type: ignore[misc]  # transformers has no types
    """Keys and values of a layer that attends to everything, beside states that forget."""

    def beside(self, fresh: LinearAttentionLayer) -> Self:
        """Take the states of a fresh layer: it has as many as the model fills."""
        self.__dict__.update(_part(fresh, _FIELDS))
        return self

    def lazy_initialization(self, *first: Any, **states: Any) -> None:  # noqa: ANN401 - the base's signature
        """Take the device and dtype of the first keys and values, or make room for the first states."""
        if first:
            super().lazy_initialization(*first)
        else:
            LinearAttentionLayer.lazy_initialization(self, **states)

    def crop(self, tokens_to_remove: int) -> None:
        """Remove the last tokens.

        Raises:
            RuntimeError: the states that were before them are forgotten.
        """
        LinearAttentionLayer.crop(self, tokens_to_remove)
        super().crop(tokens_to_remove)

    def saved(self) -> dict[str, object]:
        """Copy what cropping does not bring back, the states among it, for `restore`."""
        return {**super().saved(), "states": copied(_part(self, _FIELDS - _SHARED))}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Hold again what was held then, whatever was appended since; of copies, another one is made."""
        super().restore(saved)
        self.__dict__.update(copied(saved["states"]))


class GrowingHybridWindowLayer(GrowingHybridLayer, GrowingWindowLayer):
    """The same for a sliding window."""


def _part(layer: object, names: frozenset[str]) -> dict[str, object]:
    return {name: value for name, value in vars(layer).items() if name in names}
