"""Pickled weights to safetensors: tensors and nothing else, a few gigabytes at a time."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file

from engine.checkpoint.files import shown
from engine.errors import DamagedCheckpoint, EngineError, UnsafeCheckpoint

PART_BYTES = 2 << 30
"""Of one file of safetensors, unless a single tensor is larger."""
_HEADS = ("lm_head.weight", "embed_out.weight")
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
_AGAIN = "Get the model as safetensors, or the file again from where it came from."
_BROKEN = (RuntimeError, OSError, EOFError, ValueError, TypeError, LookupError, AttributeError)
_ROUNDING_BYTES = 1 << 20

Tensors = dict[str, torch.Tensor]


def read_pickle(path: Path, name: str) -> tuple[Tensors, tuple[str, ...]]:
    """The tensors of one file, mapped where it can be, and the names of what else it holds.

    torch's own unpickler knows tensors and plain containers; it imports and calls nothing that a file names.

    Args:
        path: its real path.
        name: what the checkpoint calls it, for messages.

    Raises:
        UnsafeCheckpoint: it asks for code.
        DamagedCheckpoint: it cannot be read, is no dictionary of names, or unfolds to far more than it holds.
    """
    found = _unpickled(path, name)
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise DamagedCheckpoint(f"{shown(name)} holds no names with tensors.", _AGAIN)
    tensors = {key: value for key, value in found.items() if _is_plain(value)}
    size = sum(tensor.numel() * tensor.itemsize for tensor in tensors.values())
    if size > 2 * path.stat().st_size + _ROUNDING_BYTES:
        message = f"{shown(name)} describes {size:,} bytes of tensors, and has far fewer."
        raise DamagedCheckpoint(message, _AGAIN)
    return tensors, tuple(key for key in found if key not in tensors)


def _unpickled(path: Path, name: str) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an unusual protocol; what it cannot read it refuses
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise _unsafe(error, name) from error
    except _BROKEN as error:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise DamagedCheckpoint(f"{shown(name)} cannot be read: {shown(reason)}", _AGAIN) from error


def _unsafe(error: pickle.UnpicklingError, name: str) -> EngineError:
    if asked := _GLOBAL.search(str(error)):
        message = (
            f"{shown(name)} asks to call {shown(asked[1])}, which is no part of weights: nothing of it ran."
        )
        return UnsafeCheckpoint(message, "Do not open this file anywhere; get the model from another place.")
    return UnsafeCheckpoint(f"{shown(name)} holds what no weights hold: nothing of it ran.", _AGAIN)


def _is_plain(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.layout is torch.strided and not value.is_quantized


def without_tied_heads(tensors: Tensors) -> Tensors:
    """Leave out a head that is the very memory of another tensor; the model ties them itself."""
    owners = {_place(tensor) for name, tensor in tensors.items() if not name.endswith(_HEADS)}
    return {
        name: tensor
        for name, tensor in tensors.items()
        if not name.endswith(_HEADS) or _place(tensor) not in owners
    }


def _place(tensor: torch.Tensor) -> tuple[object, ...]:
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype


def parts_of(tensors: Tensors, part_bytes: int = PART_BYTES) -> Iterator[Tensors]:
    """Share tensors out over files, in their order."""
    part: Tensors = {}
    size = 0
    for name, tensor in tensors.items():
        if part and size + tensor.nbytes > part_bytes:
            yield part
            part, size = {}, 0
        part[name] = tensor
        size += tensor.nbytes
    if part:
        yield part


def write_part(part: Tensors, path: Path) -> None:
    """Write tensors to a new file; those that share memory are written once each."""
    save_file(_apart(part), path, metadata={"format": "pt"})


def _apart(part: Tensors) -> Tensors:
    """The same numbers, no two in the same memory."""
    seen: set[int] = set()
    apart: Tensors = {}
    for name, tensor in part.items():
        storage = tensor.untyped_storage()
        is_alone = storage.data_ptr() not in seen and storage.nbytes() == tensor.nbytes
        seen.add(storage.data_ptr())
        plain = tensor.detach().contiguous()
        apart[name] = plain if is_alone else plain.clone()
    return apart
