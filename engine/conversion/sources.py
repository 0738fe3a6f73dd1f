"""Which pickles of a model folder can be converted, and what that takes."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from engine.checkpoint.config import read_config
from engine.checkpoint.files import contained, read_json, shown
from engine.checkpoint.gates import list_folder
from engine.checkpoint.pickles import is_pickle_name
from engine.checkpoint.tensors import INDEX_LIMIT
from engine.errors import DamagedCheckpoint, DiskFull, NotACheckpoint, UnsupportedModel
from engine.values import Value

SINGLE_PICKLE = "pytorch_model.bin"
PICKLE_INDEX = "pytorch_model.bin.index.json"
_PART = re.compile(r"pytorch_model-\d{1,6}-of-\d{1,6}\.bin")
_HEADERS_SHARE = 0.01
"""Of the weights, for headers and what a file system takes for itself."""


class Pickles(Value, frozen=True, kw_only=True):
    """A model's weights in pickles.

    Attributes:
        folder: of the model.
        files: their names, in order.
        total_bytes: of them.
        is_tied: config.json says that the head is the embedding.
    """

    folder: Path
    files: tuple[str, ...]
    total_bytes: int
    is_tied: bool = False

    @property
    def need_bytes(self) -> int:
        """Disk space that safetensors of them take."""
        return round(self.total_bytes * (1 + _HEADERS_SHARE))

    @property
    def free_bytes(self) -> int:
        """Disk space that is free where they would be written."""
        return shutil.disk_usage(self.folder).free


def pickles_of(folder: Path) -> Pickles:
    """The pickles that transformers would load as a model's weights; none is opened.

    Raises:
        NotACheckpoint: it is no model folder, or has no pickles.
        DamagedCheckpoint: its index or config.json is malformed, or a file is missing or leads out.
        UnsupportedModel: it has safetensors already, or pickles that are no model's weights.
    """
    names = list_folder(folder)
    if any(name.endswith(".safetensors") for name in names):
        message = f"{shown(folder.name)} has safetensors already."
        raise UnsupportedModel(
            message, "There is nothing to convert: `vramble models --check` looks at them."
        )
    files = _files(folder, names)
    sizes = [contained(folder, name).stat().st_size for name in files]
    tied = read_config(folder).is_tied is True
    return Pickles(folder=folder, files=files, total_bytes=sum(sizes), is_tied=tied)


def _files(folder: Path, names: list[str]) -> tuple[str, ...]:
    if PICKLE_INDEX in names:
        return _indexed(folder)
    if SINGLE_PICKLE in names:
        return (SINGLE_PICKLE,)
    others = [name for name in names if is_pickle_name(name)]
    if not others:
        raise NotACheckpoint(f"{shown(folder.name)} has no pickles.", "There is nothing to convert.")
    message = f"{shown(others[0])} is not what transformers calls weights ({SINGLE_PICKLE})."
    raise UnsupportedModel(message, "Get the model as safetensors, or as transformers saves it.")


def _indexed(folder: Path) -> tuple[str, ...]:
    weight_map = read_json(folder, PICKLE_INDEX, INDEX_LIMIT).get("weight_map")
    files = sorted({str(name) for name in weight_map.values()}) if isinstance(weight_map, dict) else []
    if not files or not all(_PART.fullmatch(name) or name == SINGLE_PICKLE for name in files):
        message = f"{PICKLE_INDEX} is damaged: it names other files than {SINGLE_PICKLE} and its parts."
        raise DamagedCheckpoint(message, "Get it again from where the model came from.")
    return tuple(files)


def require_room(pickles: Pickles) -> None:
    """Refuse what the disk has no room for, or the folder no permission.

    Raises:
        DiskFull: it has not.
        UnsupportedModel: the folder cannot be written to.
    """
    if not os.access(pickles.folder, os.W_OK | os.X_OK):
        message = f"{shown(pickles.folder)} cannot be written to."
        raise UnsupportedModel(message, "Copy the model's folder to one of yours, and convert that.")
    missing = pickles.need_bytes - pickles.free_bytes
    if missing > 0:
        message = f"{pickles.need_bytes:,} bytes are needed, and {pickles.free_bytes:,} are free."
        raise DiskFull(message, f"Free {missing:,} bytes on the disk of {shown(pickles.folder)}.")
