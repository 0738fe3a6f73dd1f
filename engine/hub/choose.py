"""What of a repository is fetched: safetensors and the small files beside them; the rest is named."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from engine.checkpoint.files import shown
from engine.checkpoint.pickles import PICKLE_SUFFIXES
from engine.errors import ChecksumMismatch, NothingToLoad
from engine.hub.listing import RemoteFile

CONFIG = "config.json"
_SHARD = re.compile(r"model(-\d{1,6}-of-\d{1,6})?\.safetensors")
_ANY_SHARD = re.compile(r"[^/]+\.safetensors")
_SMALL = re.compile(
    r"[^/]+\.(json|jinja|model|tiktoken|txt)|additional_chat_templates/[^/]+\.jinja|(LICENSE|NOTICE|README)[^/]*"
)
_SMALL_BYTES = 64 * 2**20
_NEEDS = {
    ".py": "code of the repository: never fetched and never run",
    ".gguf": "GGUF, for llama.cpp; loading it here would need the package gguf",
    ".onnx": "ONNX, for onnxruntime",
    ".h5": "TensorFlow",
    ".msgpack": "Flax",
    ".ot": "rust-bert",
    ".tflite": "TensorFlow Lite",
    ".mlpackage": "Core ML",
    **dict.fromkeys(
        PICKLE_SUFFIXES,
        "pickles, which could run any code: once they are here, `vramble convert` makes safetensors of them",
    ),
}


class Choice(NamedTuple):
    """What is fetched, and what is said about the rest.

    Attributes:
        wanted: files, the small ones first.
        notes: a sentence for each other format that is there.
    """

    wanted: tuple[RemoteFile, ...]
    notes: tuple[str, ...]

    @property
    def total_bytes(self) -> int:
        """Of all wanted files."""
        return sum(file.size for file in self.wanted)


def choose(files: Iterable[RemoteFile]) -> Choice:
    """What of a checked listing is fetched.

    Raises:
        NothingToLoad: there are no safetensors, or no config.json says what they are.
        ChecksumMismatch: the hub has no checksum for a file of weights.
    """
    files = tuple(files)
    weights = _matching(files, _SHARD) or _matching(files, _ANY_SHARD)
    notes = _notes(files)
    if not weights:
        raise NothingToLoad(" ".join(["The repository has no safetensors.", *notes]), _elsewhere(notes))
    if all(file.path != CONFIG for file in files):
        message = f"The repository has no {CONFIG}, so it is no model by itself."
        raise NothingToLoad(message, "If it is an adapter, get the model that it was made for.")
    for file in weights:
        if not file.sha256:
            message = f"The hub has no SHA-256 of {shown(file.path)}, so it could not be checked."
            raise ChecksumMismatch(message, "Get the model from another hub.")
    small = [file for file in _matching(files, _SMALL) if file.size <= _SMALL_BYTES]
    wanted = sorted((*small, *weights), key=lambda file: (file.size, file.path))
    return Choice(tuple(wanted), notes)


def _matching(files: Iterable[RemoteFile], pattern: re.Pattern[str]) -> list[RemoteFile]:
    return [file for file in files if pattern.fullmatch(file.path)]


def _notes(files: Iterable[RemoteFile]) -> tuple[str, ...]:
    counts: dict[str, int] = {}
    for file in files:
        name = file.path.lower()
        need = next((need for suffix, need in _NEEDS.items() if name.endswith(suffix)), "")
        if need:
            counts[need] = counts.get(need, 0) + 1
    return tuple(f"Not fetched: {count} {_files(count)} of {need}." for need, count in counts.items())


def _files(count: int) -> str:
    return "file" if count == 1 else "files"


def _elsewhere(notes: tuple[str, ...]) -> str:
    return "Look on the hub for a version in safetensors." if notes else "Check the name and the revision."
