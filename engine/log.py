"""The engine process's log: what native code and Python write to file descriptors 1 and 2."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

MAX_LOG_BYTES = 4 * 2**20
"""A log longer than this becomes `<name>.1`; with what one second can add, both stay below 10 MB."""


def open_log(path: Path | None) -> int:
    """A descriptor that appends to `path`, rotated and 0600 in a folder 0700; the null device without one.

    A log that cannot be opened is no reason not to start, so the null device stands in for it.
    """
    if path is None:
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        return _open_private(path)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)


def keep_short(path: Path, *descriptors: int) -> None:
    """Point the descriptors to a new log when `path` has grown too long."""
    if not _is_long(path):
        return
    log = open_log(path)
    for descriptor in descriptors:
        os.dup2(log, descriptor)
    os.close(log)


def _open_private(path: Path) -> int:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if _is_long(path):
        path.replace(path.with_name(path.name + ".1"))
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    log = os.open(path, flags, 0o600)
    os.fchmod(log, 0o600)
    return log


def _is_long(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return path.lstat().st_size > MAX_LOG_BYTES
    return False
