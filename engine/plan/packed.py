"""Packed weights that were kept of an earlier load: where they lie, and whether they are still of this model.

One safetensors file per checkpoint, way of packing, library version and kind of processor.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from engine.checkpoint import StoredTensor, Verdict
from engine.checkpoint.files import JSON_LIMIT, contained, open_plain
from engine.checkpoint.tensors import read_header
from engine.errors import EngineError
from engine.plan.kept import scratch_folder
from engine.plan.processor import has_bf16_products
from engine.values import Quantization

FORMAT = 2
"""Raised whenever such files come to hold something else."""
SUFFIX = ".safetensors"
UNFINISHED = ".unfinished-"
_PACKED_BY = ("bitsandbytes", "transformers", "torch")


class PackedFile(NamedTuple):
    """A file of packed weights that belongs to a checkpoint as it is now.

    Attributes:
        path: of the file.
        tensors: in it, in order.
    """

    path: Path
    tensors: tuple[StoredTensor, ...]

    @property
    def bytes(self) -> int:
        """Of all tensors."""
        return sum(tensor.bytes for tensor in self.tensors)


def packed_folder() -> Path:
    """Where such files lie, in our own cache; the folder need not exist."""
    return scratch_folder() / "packed"


def packed_file(verdict: Verdict, quantization: Quantization) -> PackedFile | None:
    """What was kept of a checkpoint that was packed before; None where nothing fits it.

    A file that is damaged within its header, truncated, or somebody else's is as good as none.
    """
    path = packed_path(verdict, quantization)
    if path is None:
        return None
    try:
        if path.lstat().st_uid != os.geteuid():
            return None
        return PackedFile(path, read_header(path, path.name))
    except (OSError, EngineError):
        return None


def packed_path(verdict: Verdict, quantization: Quantization) -> Path | None:
    """Where a checkpoint's packed weights lie, or would lie; None where nothing is packed on load.

    The name stands for the checkpoint's files (size, time of the last change, inode), its config.json,
    an adapter that is merged into it, and everything that packing depends on.
    """
    if quantization is Quantization.NONE or verdict.config.quantization or not verdict.tensors:
        return None
    identity = identity_of(verdict)
    if identity is None:
        return None
    said = [f"format {FORMAT}", quantization.value, f"bf16 {has_bf16_products()}", *_versions(), *identity]
    return packed_folder() / f"{hashlib.sha256(repr(said).encode()).hexdigest()[:32]}{SUFFIX}"


def identity_of(verdict: Verdict) -> list[str] | None:
    """Tell a checkpoint as it is now from any other: its files, its config.json, an adapter merged into it.

    None where they cannot be looked at.
    """
    try:
        said = _identities({tensor.file for tensor in verdict.tensors})
        if verdict.adapter is not None:
            said.append(repr(verdict.adapter))
            said += _identities({pair.a.file for pair in verdict.adapter.pairs})
        with open_plain(contained(verdict.folder, "config.json")) as file:
            said.append(hashlib.sha256(file.read(JSON_LIMIT)).hexdigest())
    except (OSError, EngineError):
        return None
    return said


def used(path: Path) -> None:
    """Take note that a file was of use, so that others are removed first."""
    with contextlib.suppress(OSError):
        os.utime(path)


def _identities(files: Iterable[Path]) -> list[str]:
    stats = ((file, file.stat()) for file in sorted(files))
    return [f"{file} {status.st_size} {status.st_mtime_ns} {status.st_ino}" for file, status in stats]


@functools.cache
def _versions() -> tuple[str, ...]:
    """Names and versions of what packs, found without importing any of it."""
    return tuple(f"{package} {_version(package)}" for package in _PACKED_BY)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"
