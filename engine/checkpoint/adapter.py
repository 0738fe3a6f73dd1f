"""Folders that hold an adapter: a few weights beside a base model's, in the layout of peft."""

from __future__ import annotations

import os
import re
from pathlib import Path

from engine.checkpoint.files import read_json, shown
from engine.checkpoint.native import is_installed
from engine.errors import UnsupportedModel
from engine.values import Value

ADAPTER_CONFIG = "adapter_config.json"
_MERGE = "Merge it into its base model (peft: merge_and_unload), and load that."
_KINDS = {"LORA": "LoRA"}
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}", re.ASCII)
HIGHEST_RANK = 2**20


class Adapter(Value, frozen=True, kw_only=True):
    """What an adapter says of itself.

    Attributes:
        base: the model it was made for: owner/name on a hub, or a folder of whoever made it; may be empty.
        kind: "LoRA", or what peft calls another method.
        rank: of its matrices; 0 where it does not say.
    """

    base: str
    kind: str
    rank: int

    @property
    def format(self) -> str:
        """In a word or two: "LoRA r16"."""
        return f"{self.kind} r{self.rank}" if self.rank else self.kind

    def refusal(self, name: str) -> UnsupportedModel:
        """Why it is not loaded."""
        kind, base = shown(self.kind), f" for {shown(self.base)}" if self.base else ""
        if self.kind not in _KINDS.values():
            message = f"{shown(name)} is a {kind} adapter{base}, not a model; only LoRA is applied."
            return UnsupportedModel(message, _MERGE)
        lack = "which is not among the models here" if self.base else "which names no base model"
        return UnsupportedModel(f"{shown(name)} is a {kind} adapter{base}, {lack}.", self._next_step)

    @property
    def _next_step(self) -> str:
        """How its base model gets here, where a hub may have it."""
        if _REPOSITORY.fullmatch(self.base):
            return f"`vramble pull hf:{self.base}` gets its base model."
        return f"Name the folder of its base model in model_folders. {_MERGE}" if self.base else _MERGE


def has_adapter(folder: Path) -> bool:
    """The folder holds an adapter, whatever else it holds."""
    return os.path.lexists(folder / ADAPTER_CONFIG)


def refuse_adapter_beside_model(folder: Path) -> None:
    """Refuse a model with an adapter in its folder where transformers would apply it unasked.

    With peft installed it takes the base model and the weights that the adapter's config names, wherever
    they lie, and opens its pickles; without, it ignores them, and so does a load here.

    Raises:
        UnsupportedModel: there is one, and peft is installed.
    """
    if has_adapter(folder) and is_installed("peft"):
        message = f"{shown(folder.name)} holds an adapter beside the model, and peft would apply it unasked."
        raise UnsupportedModel(message, f"Move {ADAPTER_CONFIG} to a folder of its own.")


def read_adapter(folder: Path) -> Adapter:
    """Read an adapter's configuration.

    Raises:
        DamagedCheckpoint: it is malformed.
    """
    config = read_json(folder, ADAPTER_CONFIG)
    kind, base, rank = (config.get(name) for name in ("peft_type", "base_model_name_or_path", "r"))
    return Adapter(
        base=base if isinstance(base, str) else "",
        kind=_KINDS.get(kind, shown(kind, 20)) if isinstance(kind, str) else "peft",
        rank=rank if isinstance(rank, int) and 0 < rank <= HIGHEST_RANK else 0,
    )
