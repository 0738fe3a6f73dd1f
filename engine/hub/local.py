"""The models on this disk, from config.json and the sizes of files alone."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import NamedTuple

import msgspec

from engine.checkpoint import read_tensors
from engine.checkpoint.adapted import read_native, refusal
from engine.checkpoint.adapter import read_adapter
from engine.checkpoint.config import ModelConfig, parse_config
from engine.checkpoint.files import contained, shown
from engine.checkpoint.lora import refuse_adapter
from engine.checkpoint.native import native_class
from engine.checkpoint.own_code import own_classes
from engine.checkpoint.pickles import is_pickle_name
from engine.checkpoint.quantizers import obstacle
from engine.checkpoint.tensors import INDEX_FILE, SINGLE_FILE, read_header
from engine.errors import CheckpointError, NotACheckpoint, UnsafeCheckpoint, UnsupportedModel
from engine.hub.adapters import is_adapter, with_base
from engine.hub.places import GUIDE, all_places
from engine.values import ModelRef, Value

_SHARD = re.compile(r"model-\d+-of-(\d{1,6})\.safetensors$")
_SHORT_DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32", "float64": "fp64"}
_POINTER_BYTES = 1024
"""Below this a weights file may be a pointer left by Git LFS, so its header is read."""


class LocalModel(Value, frozen=True, kw_only=True):
    """One model folder on this disk.

    Attributes:
        ref: which model.
        architecture: the class named by config.json; empty where it names none.
        weight_bytes: sizes of the files that hold weights.
        format: how they are stored: "bf16", "gptq 4-bit", "pickle"; empty where unknown.
        context_window: the longest one it was made for; 0 where unknown.
        modified_at: seconds since the epoch.
        problem: why it cannot be loaded; empty when nothing is known to be wrong.
        runs_code: only code that the repository brings runs it, after the person has agreed.
    """

    ref: ModelRef
    architecture: str = ""
    weight_bytes: int = 0
    format: str = ""
    context_window: int = 0
    modified_at: float = 0.0
    problem: str = ""
    runs_code: bool = False


class _Files(NamedTuple):
    """Sizes of the files that hold weights, by name."""

    safetensors: dict[str, int]
    pickles: dict[str, int]


def list_models(folders: tuple[Path, ...] = ()) -> tuple[LocalModel, ...]:
    """Every model on this disk: the guide first, then by name.

    Args:
        folders: where else to look than in the hubs' caches.
    """
    refs = list(all_places(folders))
    models = [_look(with_base(ref, refs)) for ref in refs]
    return tuple(sorted(models, key=lambda model: (model.ref.name != GUIDE, model.ref.name.casefold())))


def count_parameters(folder: Path) -> int:
    """Parameters stored in a model folder, from its headers.

    Raises:
        CheckpointError: the headers cannot be read.
    """
    return sum(tensor.elements for tensor in read_tensors(folder))


def _look(ref: ModelRef) -> LocalModel:
    if ref.adapter is not None:
        return _adapted(ref, ref.adapter)
    files = _weight_files(ref.folder)
    sizes = files.safetensors or files.pickles
    found = LocalModel(ref=ref, weight_bytes=sum(sizes.values()), modified_at=_modified(ref.folder))
    if is_adapter(ref):
        return _adapter(found)
    try:
        fields = read_native(ref.folder)
        config = parse_config(fields, {}, {}, has_template=False)
    except CheckpointError as error:
        return msgspec.structs.replace(found, problem=error.message)
    described = msgspec.structs.replace(
        found,
        architecture=config.architecture,
        format=_format(config, files),
        context_window=config.context_window,
    )
    try:
        runs_code = _needs_code(ref.folder, config)
        _refuse(
            ref.folder, config, files, "" if runs_code else refusal(fields), is_runnable=runs_code is not None
        )
    except CheckpointError as error:
        return msgspec.structs.replace(described, problem=error.message)
    return msgspec.structs.replace(described, runs_code=bool(runs_code))


def _adapted(ref: ModelRef, folder: Path) -> LocalModel:
    """An adapter and its base model as one."""
    base = _look(msgspec.structs.replace(ref, adapter=None))
    found = msgspec.structs.replace(
        base,
        ref=ref,
        format="LoRA",
        weight_bytes=base.weight_bytes + sum(_weight_files(folder).safetensors.values()),
        modified_at=max(base.modified_at, _modified(folder)),
    )
    try:
        adapter = read_adapter(folder)
        found = msgspec.structs.replace(found, format=f"{adapter.format} of {shown(adapter.base)}")
        refuse_adapter(folder, adapter)
    except CheckpointError as error:
        return msgspec.structs.replace(found, problem=error.message)
    return found


def _adapter(found: LocalModel) -> LocalModel:
    try:
        adapter = read_adapter(found.ref.folder)
    except CheckpointError as error:
        return msgspec.structs.replace(found, problem=error.message)
    refusal = str(adapter.refusal(found.ref.name))
    return msgspec.structs.replace(found, format=adapter.format, problem=refusal)


def _needs_code(folder: Path, config: ModelConfig) -> bool | None:
    """Only the repository's own code runs it; None where that does not either. Raises CheckpointError."""
    if native_class(config.model_type, config.architecture):
        return False
    return True if own_classes(folder) else None


def _weight_files(folder: Path) -> _Files:
    """Sizes by name; none where the folder cannot be read, which its config.json tells of then."""
    files = _Files({}, {})
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".safetensors"):
                files.safetensors[entry.name] = _size(entry)
            elif is_pickle_name(entry.name):
                files.pickles[entry.name] = _size(entry)
    return files


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except OSError:
        return 0


def _format(config: ModelConfig, files: _Files) -> str:
    if not files.safetensors:
        return "pickle" if files.pickles else ""
    if not config.quantization:
        return _SHORT_DTYPES.get(config.dtype, shown(config.dtype))
    bits = f" {config.quantization_bits}-bit" if config.quantization_bits else ""
    return f"{shown(config.quantization)}{bits}"


def _refuse(folder: Path, config: ModelConfig, files: _Files, reason: str, *, is_runnable: bool) -> None:
    """Raise what is wrong as far as it can be told without reading headers; `reason` is already known."""
    if not files.safetensors:
        if files.pickles:
            raise UnsafeCheckpoint(
                "It has only pickles, which could run any code: `vramble convert` makes safetensors of them."
            )
        raise NotACheckpoint("It holds no safetensors.")
    if reason:
        raise UnsupportedModel(reason)
    if not is_runnable:
        raise UnsupportedModel(f"{shown(config.architecture or config.model_type)} cannot be run here.")
    found = obstacle(config.quantization) if config.quantization else None
    if found:
        raise UnsupportedModel(f"{shown(config.quantization)} needs {found.lack}. {found.hint}")
    _refuse_incomplete(folder, files.safetensors)


def _refuse_incomplete(folder: Path, sizes: dict[str, int]) -> None:
    shards = [match for name in sizes if (match := _SHARD.match(name))]
    promised = int(shards[0][1]) if shards else 0
    if len(shards) < promised:
        message = f"{promised - len(shards)} of {promised} shards are missing."
        raise NotACheckpoint(message)
    if SINGLE_FILE not in sizes and not os.path.lexists(folder / INDEX_FILE):
        raise NotACheckpoint(f"Neither {SINGLE_FILE} nor {INDEX_FILE} is there.")
    for name, size in sizes.items():
        if size < _POINTER_BYTES:
            read_header(contained(folder, name), name)


def _modified(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0
