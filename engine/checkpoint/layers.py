"""The main list of layers among a checkpoint's tensor names."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from engine.checkpoint.tensors import StoredTensor

_NUMBERED = re.compile(r"^(.*?)\.(\d{1,5})\.")


def split_layer(name: str) -> tuple[str, int] | None:
    """The list and the index of the outermost layer a tensor belongs to; None outside of lists."""
    match = _NUMBERED.match(name)
    return (match[1], int(match[2])) if match else None


def main_list(tensors: Iterable[StoredTensor], layers: int) -> str:
    """Path of the list that holds the language model's layers ("model.layers"); empty without one.

    Args:
        tensors: of the checkpoint.
        layers: how many config.json promises; settles the choice beside a vision tower.
    """
    sizes: dict[str, int] = defaultdict(int)
    indices: dict[str, set[int]] = defaultdict(set)
    for tensor in tensors:
        if place := split_layer(tensor.name):
            sizes[place[0]] += tensor.bytes
            indices[place[0]].add(place[1])
    return max(sizes, key=lambda path: (len(indices[path]) == layers, sizes[path]), default="")


def layer_indices(tensors: Iterable[StoredTensor], path: str) -> set[int]:
    """Indices of the layers of one list for which there are tensors."""
    places = (split_layer(tensor.name) for tensor in tensors)
    return {place[1] for place in places if place and place[0] == path}
