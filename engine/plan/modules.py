"""From tensor names to the modules of a device_map, in forward order."""

from __future__ import annotations

import re
from typing import NamedTuple

from engine.checkpoint.layers import split_layer

_EMBEDDING = re.compile(r"(^|\.)(embed_tokens|wte|word_embeddings|embed_in|tok_embeddings|embeddings)$")
_HEADS = ("lm_head", "output", "head")
_LAST_NORMS = ("norm", "norm_f", "ln_f", "final_norm", "final_layer_norm", "final_layernorm", "project_out")
_UNUSED = ("mtp",)
_BASES = ("model", "transformer", "gpt_neox", "backbone", "rwkv", "bert", "base_model")
_FAMILY_BASES = {
    "gpt_neox": "gpt_neox",
    "mamba": "backbone",
    "mamba2": "backbone",
    "falcon_mamba": "backbone",
}
_FAMILY_HEADS = {"rwkv": "head"}
_RENAMED_ON_LOAD = (
    ("embed_out.", "lm_head."),
    ("language_model.model.", "model.language_model."),
    ("language_model.lm_head.", "lm_head."),
    ("vision_tower.", "model.vision_tower."),
    ("multi_modal_projector.", "model.multi_modal_projector."),
)


class ModulePath(NamedTuple):
    """Where a tensor belongs.

    Attributes:
        name: of the module that is placed as a whole.
        layer: its index in the main list; None outside of it.
    """

    name: str
    layer: int | None = None


class Granularity:
    """Finds the module that a built model's tensor is placed with: layers as wholes, the rest apart."""

    def __init__(self, layer_list: str) -> None:
        """Take the path of the main list ("model.layers"); empty where there is none."""
        self.layer_list = layer_list
        parts = layer_list.split(".")
        self._ancestors = {".".join(parts[:n]) for n in range(len(parts))}
        self._known: dict[str, ModulePath] = {}

    def module_of(self, name: str) -> ModulePath:
        """The module of a tensor; for a parameter of the base itself, its own name."""
        parent = name.rpartition(".")[0]
        if parent in self._ancestors:
            return ModulePath(name)
        if parent not in self._known:
            self._known[parent] = self._module_of(name)
        return self._known[parent]

    def _module_of(self, name: str) -> ModulePath:
        place = split_layer(name)
        if place and place[0] == self.layer_list:
            return ModulePath(f"{place[0]}.{place[1]}", place[1])
        parts = name.split(".")
        for length in range(1, len(parts) + 1):
            prefix = ".".join(parts[:length])
            if prefix not in self._ancestors:
                return ModulePath(prefix)
        return ModulePath(name)


class ModuleNames:
    """Names the module of every tensor of one checkpoint, as the built model will call it."""

    def __init__(self, layer_list: str, model_type: str) -> None:
        """Learn the checkpoint's habits.

        Args:
            layer_list: path of the main list as stored ("model.layers", "h").
            model_type: of config.json.
        """
        self._model_type = model_type
        self._is_bare = layer_list.partition(".")[0] not in (*_BASES, "language_model")
        self._granularity = Granularity(self.built_name(f"{layer_list}.").rstrip("."))

    def built_name(self, name: str) -> str:
        """A stored tensor's name in the built model, where prefixes differ."""
        for old, new in _RENAMED_ON_LOAD:
            if name.startswith(old):
                return new + name.removeprefix(old)
        if not self._is_bare or name.partition(".")[0] in _HEADS:
            return name
        fallback = "transformer" if name.startswith(("h.", "wte.", "wpe.", "ln_f.")) else "model"
        return f"{_FAMILY_BASES.get(self._model_type, fallback)}.{name}"

    def module_of(self, stored_name: str) -> ModulePath:
        """The module that a stored tensor is placed with."""
        return self._granularity.module_of(self.built_name(stored_name))

    @property
    def head(self) -> str:
        """What the family calls its language-model head."""
        return _FAMILY_HEADS.get(self._model_type, "lm_head")


def is_unused(path: ModulePath, layers: int) -> bool:
    """Transformers leaves these weights in the file: prediction heads beyond the last layer."""
    return path.name.partition(".")[0] in _UNUSED or (path.layer or 0) >= layers


def is_embedding(name: str) -> bool:
    """The module turns token ids into vectors."""
    return bool(_EMBEDDING.search(name))


def is_head(name: str) -> bool:
    """The module turns the last vectors into logits."""
    return name in _HEADS


def forward_order(path: ModulePath) -> tuple[int, int]:
    """Sorting key: embeddings and towers, the layers, the last norm, the head."""
    if path.layer is not None:
        return 1, path.layer
    if is_head(path.name):
        return 3, 0
    return (2, 0) if path.name.rpartition(".")[2] in _LAST_NORMS else (0, 0)
