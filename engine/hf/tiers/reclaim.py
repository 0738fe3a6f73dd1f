"""Weights that accelerate fetches for each forward, taken back into RAM before a tier serves them."""

from __future__ import annotations

from collections.abc import Iterable

from accelerate.hooks import remove_hook_from_module
from torch.nn import Module


def reclaim(layers: Iterable[Module]) -> None:
    """Remove accelerate's hooks; what they kept for the layers becomes their parameters again."""
    for layer in layers:
        remove_hook_from_module(layer, recurse=True)
