"""Old names of tensors to native ones; rows that lie together become tensors of their own, where they lie."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from engine.checkpoint.adapted.family import Layout
from engine.checkpoint.config import ModelConfig
from engine.checkpoint.files import DOWNLOAD_AGAIN, shown
from engine.checkpoint.tensors import StoredTensor
from engine.errors import DamagedCheckpoint

_PARTS = ("q_proj", "k_proj", "v_proj")


def native_tensors(
    tensors: Iterable[StoredTensor], layout: Layout, config: ModelConfig
) -> tuple[StoredTensor, ...]:
    """Describe the stored bytes as the native class names them.

    Args:
        tensors: as the files describe them, in the order of files and offsets.
        layout: of the family.
        config: the native one.

    Raises:
        DamagedCheckpoint: packed rows that config.json does not tell apart.
    """
    return tuple(part for tensor in tensors for part in _native(tensor, layout, config))


def _native(tensor: StoredTensor, layout: Layout, config: ModelConfig) -> Iterator[StoredTensor]:
    if tensor.name.endswith(layout.dropped):
        return
    module, _, leaf = tensor.name.rpartition(".")
    prefix = f"{layout.layers}."
    if not module.startswith(prefix):
        yield _called(tensor, f"{layout.renamed.get(module, module)}.{leaf}")
        return
    index, _, inner = module.removeprefix(prefix).partition(".")
    path = f"{layout.native_layers}.{index}"
    if layout.packed and inner == layout.packed:
        yield from _unpacked(tensor, f"{path}.self_attn", leaf, config)
    else:
        yield _called(tensor, f"{path}.{layout.renamed.get(inner, inner)}.{leaf}")


def _called(tensor: StoredTensor, name: str) -> StoredTensor:
    return tensor if name == tensor.name else msgspec.structs.replace(tensor, name=name)


def _unpacked(tensor: StoredTensor, attention: str, leaf: str, config: ModelConfig) -> Iterator[StoredTensor]:
    """Queries, keys and values as they follow each other in one tensor's rows."""
    keys = config.kv_heads * config.head_dim
    rows = config.heads * config.head_dim, keys, keys
    if tensor.shape[:1] != (sum(rows),):
        found = " × ".join(f"{side:,}" for side in tensor.shape)
        message = f"{shown(tensor.name)} is {found}, and config.json says {sum(rows):,} rows."
        raise DamagedCheckpoint(message, DOWNLOAD_AGAIN)
    start, row_bytes = tensor.start, tensor.bytes // sum(rows)
    for part, count in zip(_PARTS, rows, strict=True):
        size = count * row_bytes
        yield StoredTensor(
            f"{attention}.{part}.{leaf}", tensor.dtype, (count, *tensor.shape[1:]), start, size, tensor.file
        )
        start += size
