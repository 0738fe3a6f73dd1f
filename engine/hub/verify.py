"""Checksums of files, computed here and compared with what the hub says."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from engine.checkpoint.files import shown
from engine.errors import ChecksumMismatch
from engine.hub.listing import RemoteFile

_BLOCK_BYTES = 4 * 2**20


def is_right(path: Path, file: RemoteFile) -> bool:
    """A plain file lies there whose size and checksum are those of the hub; false where it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size != file.size:
            return False
        if not file.sha256 and not file.git_sha1:
            return True  # a small file; choose() refuses weights without a checksum
        digest = hashlib.sha256() if file.sha256 else git_digest(file.size)
        block = bytearray(_BLOCK_BYTES)
        view = memoryview(block)
        while count := stream.readinto(view):
            digest.update(view[:count])
    return digest.hexdigest() == (file.sha256 or file.git_sha1)


def git_digest(size: int) -> hashlib._Hash:
    """A digest that goes on with the content of a file, as git names it."""
    return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)


def refuse_wrong(path: Path, file: RemoteFile) -> None:
    """Raise ChecksumMismatch unless the file is what the hub says."""
    if not is_right(path, file):
        message = f"{shown(file.path)} is not what the hub says: its size or checksum differs."
        raise ChecksumMismatch(message, "Get it again; it may have been changed meanwhile.")
