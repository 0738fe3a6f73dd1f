"""What a hub says is in a repository; every path is checked here, before anything is opened."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import accumulate

from engine.checkpoint.files import shown
from engine.errors import UnsafeListing
from engine.value import Value

_MOST_FILES = 100_000
_MOST_BYTES = 2**50
_PART_LIMIT = 255
_PATH_LIMIT = 1024
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA1 = re.compile(r"[0-9a-f]{40}")
_HINT = "Nothing was fetched. Get the model from another owner."


class RemoteFile(Value, frozen=True, kw_only=True):
    """One file of a repository.

    Attributes:
        path: in the repository; relative, of plain names.
        size: in bytes.
        sha256: of its content; empty where the hub does not say.
        git_sha1: what git calls its content; empty where the hub does not say.
    """

    path: str
    size: int
    sha256: str = ""
    git_sha1: str = ""


class Listing(Value, frozen=True, kw_only=True):
    """A repository at one revision.

    Attributes:
        revision: what is asked for: a commit where the hub has told it, else a branch or tag.
        files: all of them, checked.
    """

    revision: str
    files: tuple[RemoteFile, ...]


def checked(revision: str, files: Iterable[RemoteFile]) -> Listing:
    """A listing whose paths stay in their folder.

    Raises:
        UnsafeListing: one does not, or it is no listing that can be meant.
    """
    kept: dict[str, RemoteFile] = {}
    for file in files:
        _check(file)
        if file.path in kept or len(kept) >= _MOST_FILES:
            raise UnsafeListing(f"The repository lists {shown(file.path)} twice, or too many files.", _HINT)
        kept[file.path] = file
    _refuse_files_that_are_folders(kept)
    return Listing(revision=revision, files=tuple(kept.values()))


def remote_file(path: object, size: object, sha256: object = "", git_sha1: object = "") -> RemoteFile:
    """One file as a hub's answer tells it. Raises UnsafeListing where it is none."""
    if not isinstance(path, str) or not isinstance(size, int) or not 0 <= size <= _MOST_BYTES:
        raise UnsafeListing(f"The repository lists what is no file: {shown(path)}.", _HINT)
    return RemoteFile(
        path=path, size=size, sha256=_digest(_SHA256, sha256), git_sha1=_digest(_SHA1, git_sha1)
    )


def _digest(pattern: re.Pattern[str], digest: object) -> str:
    text = digest.lower() if isinstance(digest, str) else ""
    return text if pattern.fullmatch(text) else ""


def _check(file: RemoteFile) -> None:
    parts = file.path.split("/")
    is_plain = file.path.isprintable() and "\\" not in file.path and len(file.path) <= _PATH_LIMIT
    if not is_plain or any(part in {"", ".", ".."} or _is_long(part) for part in parts):
        message = f"The repository names a file outside its folder: {shown(file.path)}."
        raise UnsafeListing(message, _HINT)


def _is_long(part: str) -> bool:
    return len(part.encode()) > _PART_LIMIT


def _refuse_files_that_are_folders(files: dict[str, RemoteFile]) -> None:
    for path in files:
        for above in list(accumulate(path.split("/"), "{}/{}".format))[:-1]:
            if above in files:
                raise UnsafeListing(f"The repository lists {shown(above)} as a file and a folder.", _HINT)
