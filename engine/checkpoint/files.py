"""Opening a checkpoint's files without being led out of its folder, into a pipe, or into endless JSON."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import BinaryIO

from engine.errors import DamagedCheckpoint

JSON_LIMIT = 8 << 20
"""Bytes of a config; tokenizer_config with its added tokens reaches about 1 MB."""
DOWNLOAD_AGAIN = "Get the model again: `vramble pull` checks every file and replaces what is damaged."
_NAME_LIMIT = 255

JsonObject = dict[str, object]


def shown(text: object, limit: int = 80) -> str:
    """A hostile name as one short printable line, fit for a message that crosses the wire."""
    cut = str(text)[: limit + 1]
    if len(cut) > limit:
        cut = cut[: limit - 1] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)


def contained(folder: Path, name: str) -> Path:
    """The real path of a file that must lie in the folder itself.

    A link may lead elsewhere in the folder, or from `snapshots/<revision>/` to the `blobs/` of
    the same repository, as the Hugging Face cache lays files out.

    Raises:
        DamagedCheckpoint: the name or its link leads out, or it is no plain file.
    """
    _check_plain_name(name)
    root = Path(os.path.realpath(folder))
    try:
        path = Path(os.path.realpath(root / name))
        mode = path.stat().st_mode
    except OSError as error:
        message = f"{shown(name)} is missing: {error.strerror or 'it cannot be found'}."
        raise DamagedCheckpoint(message, DOWNLOAD_AGAIN) from error
    if not any(path.is_relative_to(allowed) for allowed in _roots(root)):
        message = f"{shown(name)} leads out of its folder, to {shown(path)}."
        raise DamagedCheckpoint(message, "Put the file itself in the folder if you trust it.")
    if not stat.S_ISREG(mode):
        message = f"{shown(name)} is not a plain file."
        raise DamagedCheckpoint(message, DOWNLOAD_AGAIN)
    return path


def _check_plain_name(name: str) -> None:
    is_plain = name not in {"", ".", ".."} and len(name) <= _NAME_LIMIT and name.isprintable()
    if not is_plain or "/" in name or "\\" in name:
        message = f"The checkpoint names a file outside its folder: {shown(name)}."
        raise DamagedCheckpoint(message, "Get the model from a place that you trust.")


def _roots(root: Path) -> tuple[Path, ...]:
    if root.parent.name == "snapshots":
        return root, root.parent.parent / "blobs"
    return (root,)


def open_plain(path: Path) -> BinaryIO:
    """Open a regular file for reading; a pipe or device put there meanwhile never blocks.

    Raises:
        DamagedCheckpoint: it cannot be opened, or it is not a regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        message = f"{shown(path.name)} cannot be read: {error.strerror}."
        raise DamagedCheckpoint(message, "Check the file's permissions and the disk.") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DamagedCheckpoint(f"{shown(path.name)} is not a plain file.", DOWNLOAD_AGAIN)
    return os.fdopen(descriptor, "rb")


def read_json(folder: Path, name: str, limit: int = JSON_LIMIT) -> JsonObject:
    """One JSON object from a file of the folder.

    Raises:
        DamagedCheckpoint: missing, leading out, longer than `limit` bytes, or not a JSON object.
    """
    with open_plain(contained(folder, name)) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        message = f"{shown(name)} is longer than {limit >> 20} MiB."
        raise DamagedCheckpoint(message, DOWNLOAD_AGAIN)
    return parse_object(content, name)


def parse_object(content: bytes, name: str) -> JsonObject:
    """Parse one JSON object.

    Raises:
        DamagedCheckpoint: malformed, nested beyond reason, or not an object.
    """
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        cause = known_impostor(content) or "it is not JSON"
        raise DamagedCheckpoint(f"{shown(name)} is damaged: {cause}.", DOWNLOAD_AGAIN) from error
    if not isinstance(value, dict):
        raise DamagedCheckpoint(f"{shown(name)} is damaged: it holds no JSON object.", DOWNLOAD_AGAIN)
    return value


def read_optional_json(folder: Path, name: str) -> JsonObject:
    """Like read_json, and an empty object where the folder has no such file."""
    if not os.path.lexists(folder / name):
        return {}
    return read_json(folder, name)


def known_impostor(start: bytes) -> str:
    """What a file is that should have been something else, from its first bytes; empty if unknown."""
    head = start[:256].lstrip().lower()
    if not start:
        return "it is empty"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the file itself"
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page"
    return ""
