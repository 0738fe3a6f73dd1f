"""Hidden states, and what a layer keeps of them, brought to the device that computes next."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch


def moved(value: Any, device: torch.device) -> Any:  # noqa: ANN401 - whatever a layer takes or returns
    """Return a value with every tensor in its tuples, lists and dicts on a device; itself where all are."""
    if isinstance(value, torch.Tensor):
        return value if value.device == device else value.to(device)
    if type(value) in {tuple, list}:
        items = [moved(item, device) for item in value]
        return value if all(map(_same, items, value)) else type(value)(items)
    if type(value) is dict:
        return {name: moved(item, device) for name, item in value.items()}
    return value


def _same(one: object, other: object) -> bool:
    return one is other


def bring_cache(arguments: Iterable[object], index: int, device: torch.device) -> None:
    """Move what a layer of the KV cache holds.

    Args:
        arguments: of the layer's forward; the cache is the one that has layers.
        index: of the layer.
        device: where it computes next.
    """
    for argument in arguments:
        layers = getattr(argument, "layers", None)
        if isinstance(layers, list) and index < len(layers):
            for name, value in tuple(vars(layers[index]).items()):
                setattr(layers[index], name, moved(value, device))
