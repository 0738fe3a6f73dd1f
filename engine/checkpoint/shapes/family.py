"""What is told of a family: its tables, its own words, and which layers differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from engine.checkpoint.fields import Fields
from engine.checkpoint.shapes.rows import Table
from engine.checkpoint.shapes.words import Deriver, Sizes


def no_words(_fields: Fields, _sizes: Mapping[str, int]) -> Sizes:
    """For families that the common words suffice."""
    return {}


class Family(NamedTuple):
    """The tensors of one family as its checkpoints store them.

    Attributes:
        outside: those outside of the layers, by full name.
        layer: those of one layer, by their name within it; conditions choose among kinds of layers.
        layers: path of the list of layers.
        words: derives the family's own words.
    """

    outside: Table
    layer: Table
    layers: str = "model.layers"
    words: Deriver = no_words
