"""The main list of layers of a built model, which of them are alike, and a model with only the first."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch

from engine.hf.protocols import CausalModel

_OWN_NUMBER = re.compile(r"(layer|block)_?(idx|id|number|index)$")
_SIMPLE = (bool, int, str)


class LayerList(NamedTuple):
    """The main list.

    Attributes:
        path: of the list in the model ("model.layers"); empty where there is none.
        layers: the list itself.
    """

    path: str
    layers: torch.nn.ModuleList


def find_layers(model: CausalModel, count: int) -> LayerList:
    """Find the list of `count` layers that holds the most parameters."""
    named = ((path, part) for path, part in model.named_modules() if isinstance(part, torch.nn.ModuleList))
    lists = [LayerList(path, part) for path, part in named if len(part) == count]
    nothing = LayerList("", torch.nn.ModuleList())
    return max(lists, key=lambda found: _parameters(found.layers), default=nothing)


def _parameters(layers: torch.nn.ModuleList) -> int:
    return sum(parameter.numel() for parameter in layers.parameters())


def kinds_of(layers: Iterable[torch.nn.Module], caches: Sequence[object]) -> list[Hashable]:
    """Return what tells each layer from layers of another kind: classes, settings, shapes, its cache."""
    held = [_cache_kind(cache) for cache in caches]
    return [(_kind(layer), held[index] if index < len(held) else None) for index, layer in enumerate(layers)]


def _kind(layer: torch.nn.Module) -> Hashable:
    parts = tuple((name, type(part).__name__, _settings(part)) for name, part in layer.named_modules())
    shapes = tuple((name, tensor.shape) for name, tensor in layer.named_parameters())
    return parts, shapes


def _settings(part: torch.nn.Module) -> Hashable:
    """Return a module's plain attributes, without its own place in the list."""
    return tuple(
        (name, value)
        for name, value in vars(part).items()
        if isinstance(value, _SIMPLE) and not _OWN_NUMBER.search(name)
    )


def _cache_kind(cache: object) -> Hashable:
    return type(cache).__name__, getattr(cache, "sliding_window", None)


def enough_layers(kinds: Sequence[Hashable]) -> int:
    """Return how many of the first layers show every kind at work behind another layer.

    The first layer of all is not like the others: its input is still the embedding's output.
    """
    at_work = dict.fromkeys(kinds, 0) | {
        kind: index for index, kind in reversed([*enumerate(kinds)]) if index
    }
    return max(at_work.values(), default=0) + 1


@contextlib.contextmanager
def shortened(layers: torch.nn.ModuleList, count: int) -> Iterator[None]:
    """Leave only the first `count` layers in a list; the others come back."""
    rest = list(layers)[count:]
    del layers[count:]
    try:
        yield
    finally:
        layers.extend(rest)
