"""What safetensors headers and their index say: names, dtypes, shapes, bytes; no tensor is read."""

from __future__ import annotations

import json
import math
from pathlib import Path

import msgspec

from engine.checkpoint.files import (
    DOWNLOAD_AGAIN,
    contained,
    known_impostor,
    open_plain,
    read_json,
    shown,
)
from engine.checkpoint.pickles import refuse_pickle
from engine.errors import DamagedCheckpoint

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
HEADER_LIMIT = 100_000_000
"""Bytes; the limit of the safetensors library itself."""
INDEX_LIMIT = 64 << 20
_LENGTH_BYTES = 8
_SNIFF_BYTES = 4096
DTYPE_BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}


class StoredTensor(msgspec.Struct, frozen=True, gc=False):
    """One tensor as a header describes it.

    Attributes:
        name: as stored (hostile).
        dtype: safetensors' name ("BF16").
        shape: in elements.
        start: offset of its first byte in the file.
        bytes: stored length.
        file: real path of the file that holds it.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    bytes: int
    file: Path

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def read_tensors(folder: Path) -> tuple[StoredTensor, ...]:
    """Every tensor of a checkpoint, in the order of files and offsets.

    Raises:
        DamagedCheckpoint: a file is missing, malformed, truncated or leads out of the folder.
        UnsafeCheckpoint: a file holds a pickle.
    """
    if (folder / SINGLE_FILE).is_symlink() or (folder / SINGLE_FILE).exists():
        return read_header(contained(folder, SINGLE_FILE), SINGLE_FILE)
    return _read_sharded(folder)


def _read_sharded(folder: Path) -> tuple[StoredTensor, ...]:
    weight_map = read_weight_map(folder)
    found: dict[str, StoredTensor] = {}
    for shard in sorted(set(weight_map.values())):
        for tensor in read_header(contained(folder, shard), shard):
            if weight_map.get(tensor.name, shard) == shard:
                found[tensor.name] = tensor
    missing = sorted(weight_map.keys() - found.keys())
    if missing:
        first = f"{shown(missing[0])} in {shown(weight_map[missing[0]])}"
        message = f"{len(missing)} tensors that {INDEX_FILE} promises are missing, first {first}."
        raise DamagedCheckpoint(message, DOWNLOAD_AGAIN)
    return tuple(found.values())


def read_weight_map(folder: Path) -> dict[str, str]:
    """The index's map of tensor names to file names.

    Raises:
        DamagedCheckpoint: the index is missing, malformed or empty.
    """
    weight_map = read_json(folder, INDEX_FILE, INDEX_LIMIT).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise DamagedCheckpoint(f"{INDEX_FILE} is damaged: it has no weight_map.", DOWNLOAD_AGAIN)
    if not all(isinstance(file, str) for file in weight_map.values()):
        raise DamagedCheckpoint(f"{INDEX_FILE} is damaged: a file is no name.", DOWNLOAD_AGAIN)
    return weight_map


def read_header(path: Path, name: str) -> tuple[StoredTensor, ...]:
    """The tensors that one file's header describes, by offset.

    Args:
        path: its real path.
        name: what the checkpoint calls it, for messages.

    Raises:
        DamagedCheckpoint: malformed, truncated, empty, or something else under that name.
        UnsafeCheckpoint: it is a pickle under another name.
    """
    with open_plain(path) as file:
        size = path.stat().st_size
        start = file.read(_SNIFF_BYTES)
        length = int.from_bytes(start[:_LENGTH_BYTES], "little")
        is_header = len(start) > _LENGTH_BYTES and length <= min(HEADER_LIMIT, size - _LENGTH_BYTES)
        if not is_header or start[_LENGTH_BYTES : _LENGTH_BYTES + 1] != b"{":
            raise _not_safetensors(start, name)
        file.seek(_LENGTH_BYTES)
        entries = _parse_header(file.read(length), name)
    data_start = _LENGTH_BYTES + length
    tensors = [_tensor(key, entry, data_start, path) for key, entry in entries.items()]
    tensors.sort(key=lambda tensor: (tensor.start, tensor.bytes))
    _check_layout(tensors, data_start, size, name)
    return tuple(tensors)


def _not_safetensors(start: bytes, name: str) -> DamagedCheckpoint:
    refuse_pickle(start, name)
    cause = known_impostor(start) or "it has no safetensors header, or is truncated within it"
    return DamagedCheckpoint(f"{shown(name)} is damaged: {cause}.", DOWNLOAD_AGAIN)


def _parse_header(content: bytes, name: str) -> dict[str, _Entry]:
    try:
        header = json.loads(content, object_pairs_hook=_unique)
        header.pop("__metadata__", None)
        return msgspec.convert(header, dict[str, _Entry])
    except (ValueError, RecursionError, AttributeError, msgspec.ValidationError) as error:
        message = f"{shown(name)} is damaged: its header is malformed ({shown(error)})."
        raise DamagedCheckpoint(message, DOWNLOAD_AGAIN) from error


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        message = "a name occurs twice"
        raise ValueError(message)
    return entries


def _tensor(name: str, entry: _Entry, data_start: int, path: Path) -> StoredTensor:
    begin, end = entry.data_offsets
    tensor = StoredTensor(name, entry.dtype, entry.shape, data_start + begin, end - begin, path)
    bits = DTYPE_BITS.get(entry.dtype)
    if bits is None:
        message = f"{shown(path.name)}: {shown(name)} has the unknown dtype {shown(entry.dtype)}."
        raise DamagedCheckpoint(message, "Get the checkpoint in bf16, fp16 or fp32.")
    if begin < 0 or min(entry.shape, default=0) < 0 or tensor.elements * bits != tensor.bytes * 8:
        message = f"{shown(path.name)} is damaged: the size of {shown(name)} contradicts its shape."
        raise DamagedCheckpoint(message, DOWNLOAD_AGAIN)
    return tensor


def _check_layout(tensors: list[StoredTensor], data_start: int, size: int, name: str) -> None:
    position = data_start
    for tensor in tensors:
        if tensor.start != position:
            message = f"{shown(name)} is damaged: {shown(tensor.name)} overlaps or leaves a gap."
            raise DamagedCheckpoint(message, DOWNLOAD_AGAIN)
        position += tensor.bytes
    if position != size:
        state = "truncated" if size < position else "longer than it should be"
        message = f"{shown(name)} is {state}: its header describes {position:,} bytes, it has {size:,}."
        raise DamagedCheckpoint(message, DOWNLOAD_AGAIN)
