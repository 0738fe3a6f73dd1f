"""Telling pickles from their names and first bytes; none is ever opened by an unpickler."""

from __future__ import annotations

import re

from engine.checkpoint.files import shown
from engine.errors import UnsafeCheckpoint

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy")
"""Formats that run code when a library opens them in its usual way."""
CONVERT = (
    "Get a safetensors version; or `vramble convert` makes one of it, in a process without network "
    "that runs nothing of it."
)
_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
_BINARY_PROTOCOL = re.compile(rb"\x80[\x02-\x05]")
_TEXT_PROTOCOL = re.compile(rb"(\(|\(?[dl]p\d+\n)?.{0,200}?c[\w.]+\n[\w.]+\n", re.DOTALL)


def is_pickle_name(name: str) -> bool:
    """A file of this name is a pickle as far as any loader is concerned."""
    return name.lower().endswith(PICKLE_SUFFIXES)


def looks_pickled(start: bytes) -> bool:
    """The first bytes are those of a pickle or of the zip that torch.save writes."""
    if start.startswith(_ZIP_MAGIC) or _BINARY_PROTOCOL.match(start):
        return True
    return bool(_TEXT_PROTOCOL.match(start))


def refuse_pickle(start: bytes, name: str) -> None:
    """Refuse a file whose content is pickled, whatever its name says.

    Raises:
        UnsafeCheckpoint: it is; the hint says how to convert it.
    """
    if looks_pickled(start):
        message = f"{shown(name)} holds a pickle: opening it could run any code."
        raise UnsafeCheckpoint(message, CONVERT)
