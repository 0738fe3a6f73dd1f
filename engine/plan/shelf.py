"""The blueprints that dry runs made, kept on disk: one small private file per config.json and version."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import tempfile
from pathlib import Path

import msgspec

from engine.blueprints import Blueprint
from engine.checkpoint.fields import Fields
from engine.checkpoint.files import JSON_LIMIT, contained, open_plain, parse_object
from engine.errors import CheckpointError, EngineError
from engine.offload import parent_folder
from engine.values import BudgetRequest

FORMAT = 4
"""Raised whenever dry runs learn to say something else."""
LONGEST = 64 << 20
"""Bytes; a blueprint of ten thousand tensors takes about one MiB."""
_FOLDER_MODE = 0o700
_MADE_BY = ("transformers", "torch")


def shelf_folder() -> Path:
    """Where blueprints lie: in our own cache, beside the offload folders."""
    return parent_folder(BudgetRequest()).parent / "blueprints"


def known_blueprint(folder: Path) -> Blueprint | None:
    """The blueprint kept for a model folder's config.json and the installed libraries; None without one.

    A file that is damaged, too long, or not ours is as good as none.
    """
    path = _path(folder)
    if path is None:
        return None
    try:
        return msgspec.msgpack.decode(_content(path), type=Blueprint)
    except (OSError, ValueError, RecursionError, EngineError):  # msgspec's own errors are ValueErrors
        return None


def keep_blueprint(folder: Path, blueprint: Blueprint) -> bool:
    """Keep a blueprint for the next look at a model; False where the cache cannot be written."""
    path = _path(folder)
    if path is None:
        return False
    try:
        _write(path, msgspec.msgpack.encode(blueprint))
    except OSError:
        return False
    return True


def _content(path: Path) -> bytes:
    """A file's bytes, where it is a plain file of this user's own.

    Raises:
        PermissionError: somebody else's, or too long.
        DamagedCheckpoint: no plain file.
    """
    with open_plain(path) as file:
        status = os.fstat(file.fileno())
        if status.st_uid != os.geteuid() or status.st_size > LONGEST:
            raise PermissionError(path)
        return file.read(LONGEST)


def _write(path: Path, content: bytes) -> None:
    """Put a file in its place whole, or not at all."""
    path.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    path.parent.chmod(_FOLDER_MODE)
    descriptor, unfinished = tempfile.mkstemp(dir=path.parent, prefix=".unfinished-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.replace(unfinished, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        raise


def _path(folder: Path) -> Path | None:
    """The file for a model folder; None where its config.json cannot be read."""
    try:
        with open_plain(contained(folder, "config.json")) as file:
            config = file.read(JSON_LIMIT)
        key = hashlib.sha256(config)
        key.update("\n".join((*_versions(), *_weights_that_tell(folder, config))).encode("utf-8", "replace"))
    except (CheckpointError, OSError):
        return None
    return shelf_folder() / f"{key.hexdigest()}.msgpack"


@functools.cache
def _versions() -> tuple[str, ...]:
    """Names and versions of what a blueprint depends on, found without importing any of it."""
    return (f"format {FORMAT}", *(f"{package} {_version(package)}" for package in _MADE_BY))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _weights_that_tell(folder: Path, config: bytes) -> tuple[str, ...]:
    """Names and sizes of the weights where config.json leaves it to them to say their dtype."""
    if Fields(parse_object(config, "config.json")).string("dtype", "torch_dtype"):
        return ()
    found = sorted(folder.glob("*.safetensors"))
    return tuple(f"{file.name} {file.stat().st_size}" for file in found)
