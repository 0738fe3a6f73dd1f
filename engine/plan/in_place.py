"""Whether the CPU's disk tier can read weights as they are stored, told without building the model.

What has to be made while loading (experts that are stacked, another dtype, packed weights) cannot be read
from the files for each token; accelerate's hooks fetch such a model then.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from engine.checkpoint import ModelConfig, StoredTensor
from engine.checkpoint.parameters import parameters_of
from engine.plan.module import Module
from engine.plan.modules import is_embedding
from engine.plan.weights import is_merged

KEPT_SHARE = 0.01
"""Of a model's bytes: so much may have been made while loading, and stays in RAM."""
SLOTS = 3
"""Modules that are held while they are read ahead. One is in use, two under way: a disk's queue never
runs dry between two modules."""
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def converted_bytes(tensors: Iterable[StoredTensor], config: ModelConfig, itemsize: int) -> int:
    """Bytes of weights that are stored in another dtype than config.json names; merged experts not counted.

    Args:
        tensors: as stored.
        config: of the model.
        itemsize: bytes of one computed element.
    """
    if not config.dtype:
        return 0
    others = (t for t in tensors if _DTYPES.get(t.dtype) != config.dtype and not is_merged(t))
    return itemsize * sum(parameters_of(tensor, config) for tensor in others)


def is_in_place(modules: Iterable[Module], converted: int) -> bool:
    """Say whether nearly all weights are used as they are stored.

    Args:
        modules: of the model, whose checkpoint is not packed.
        converted: `converted_bytes` of it.
    """
    modules = tuple(modules)
    made = converted + sum(module.rewritten_bytes for module in modules)
    return made <= KEPT_SHARE * sum(module.plain_bytes for module in modules)


def ring_bytes(on_disk: Sequence[Module], tied: Iterable[str]) -> int:
    """RAM that is taken while modules are read ahead: the largest SLOTS of those that are read whole.

    Args:
        on_disk: modules.
        tied: names of those whose weights another one shares: an embedding is read whole as a head.
    """
    shared = frozenset(tied)
    sizes = [m.plain_bytes for m in on_disk if m.name in shared or not is_embedding(m.name)]
    return sum(sorted(sizes, reverse=True)[:SLOTS])
