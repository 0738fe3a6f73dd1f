"""What is told of an old family: its native class, its fields, the names of its weights, how it talks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from engine.checkpoint.fields import Fields
from engine.checkpoint.files import JsonObject

GROUPED = ".self_attn.wqkv."
"""In the name of a tensor whose rows are queries, keys and values in turns, one turn per key head."""


class Layout(NamedTuple):
    """Where a family's tensors go in the native class.

    Attributes:
        layers: path of the list of layers as stored; natively it is `native_layers`.
        native_layers: that path in the native class.
        renamed: modules that are called otherwise, by their path, or by their name within a layer.
        packed: a module of each layer whose rows are all queries, then all keys, then all values.
        dropped: endings of tensors that the native class computes itself.
    """

    layers: str = "model.layers"
    native_layers: str = "model.layers"
    renamed: Mapping[str, str] = {}
    packed: str = ""
    dropped: tuple[str, ...] = ("rotary_emb.inv_freq",)

    @property
    def is_renamed(self) -> bool:
        """The files' own names are not those of the native class."""
        return bool(self.renamed or self.packed)


class Speech(NamedTuple):
    """How a family's text becomes tokens.

    Attributes:
        template: Jinja, ours; empty for a model that only continues text.
        overrules: ours is used even where the repository brings a template.
        appended: control tokens that follow the vocabulary, in order.
        ends: tokens that end a reply, beside the end of text.
        continues: what begins with a line end goes on with the text before it, and gets no blank in front.
    """

    template: str = ""
    overrules: bool = False
    appended: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    continues: bool = False


class Family(NamedTuple):
    """One old family.

    Attributes:
        title: its name.
        model_type: transformers' name of the native family.
        native_class: that runs it.
        architectures: of config.json; another one is another model.
        demands: fields that must have these values where they are there, by name.
        fields: makes the native config's fields of the old ones.
        layout: of its tensors.
        speech: of its chat models.
    """

    title: str
    model_type: str
    native_class: str
    architectures: tuple[str, ...]
    demands: Mapping[str, object]
    fields: Callable[[Fields], JsonObject]
    layout: Layout
    speech: Speech
