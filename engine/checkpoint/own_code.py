"""A repository's own code: which of its classes a load would run, and what its files say. Nothing runs."""

from __future__ import annotations

import hashlib
import io
import os
import re
import tokenize
from pathlib import Path
from typing import NamedTuple

from engine.checkpoint.files import JsonObject, contained, open_plain, read_json, read_optional_json, shown
from engine.errors import UnsafeCheckpoint
from engine.values import CodeFile, Value

MOST_FILES = 100
LONGEST_FILE = 2 << 20
"""Bytes of one file: what nobody can read, nobody can agree to."""
_REFERENCE = re.compile(
    r"(?:(?P<repository>[\w.-]+/[\w.-]+)--)?(?P<module>[A-Za-z_]\w*)\.(?P<name>[A-Za-z_]\w*)", re.ASCII
)
_MODELS = ("AutoModelForCausalLM", "AutoModel")
_ENCODINGS = ("utf-8", "utf-8-sig")
_HINT = "vramble cannot show what would run. Choose another model."


class Reference(NamedTuple):
    """One class of a repository.

    Attributes:
        repository: owner/name of another one than the model's; empty for its own.
        module: the file without its ending.
        name: of the class.
    """

    repository: str
    module: str
    name: str


class OwnClasses(NamedTuple):
    """The classes that a repository brings.

    Attributes:
        model: writes text.
        config: None where transformers' own reads config.json.
        tokenizer: None where the repository brings none.
    """

    model: Reference
    config: Reference | None
    tokenizer: Reference | None

    @property
    def repositories(self) -> tuple[str, ...]:
        """Where their code lies, the model's own repository ("") first."""
        named = {each.repository for each in self if each is not None}
        return ("", *sorted(named - {""}))


class SourceFile(Value, frozen=True, kw_only=True):
    """One file of code as it was read.

    Attributes:
        file: its name and hash.
        content: exactly the bytes that were hashed.
    """

    file: CodeFile
    content: bytes

    @property
    def text(self) -> str:
        """What Python would compile, its lines ended as Python ends them."""
        text = self.content.decode("utf-8-sig")
        return text.replace("\r\n", "\n").replace("\r", "\n")


def own_classes(folder: Path) -> OwnClasses | None:
    """The classes that a repository's configs name; None where they name none that writes text.

    Raises:
        DamagedCheckpoint: a config is malformed.
        UnsafeCheckpoint: it names code that cannot be found by its name.
    """
    config = read_json(folder, "config.json")
    model = next((found for name in _MODELS if (found := _named(config, name))), None)
    if model is None:
        return None
    said = read_optional_json(folder, "tokenizer_config.json")
    tokenizer = _named(said, "AutoTokenizer") or _named(config, "AutoTokenizer")
    return OwnClasses(model, _named(config, "AutoConfig"), tokenizer)


def _named(config: JsonObject, name: str) -> Reference | None:
    """The class that `auto_map` gives for one of transformers' names; of (slow, fast) the fast one."""
    auto_map = config.get("auto_map")
    value = auto_map.get(name) if isinstance(auto_map, dict) else None
    texts = value if isinstance(value, list) else [value]
    given = [text for text in texts if isinstance(text, str)]
    return _reference(given[-1]) if given else None


def _reference(text: str) -> Reference:
    found = _REFERENCE.fullmatch(text)
    if found is None:
        message = f"config.json names its code as {shown(text)}, which is no file of the repository."
        raise UnsafeCheckpoint(message, _HINT)
    return Reference(found["repository"] or "", found["module"], found["name"])


def read_sources(folder: Path, repository: str = "") -> tuple[SourceFile, ...]:
    """Every file of Python that lies in a folder, sorted by name; its sub-folders' cannot be imported.

    Args:
        folder: of the repository.
        repository: what CodeFile shall call it.

    Raises:
        DamagedCheckpoint: a file leads out of the folder or cannot be read.
        UnsafeCheckpoint: what would run cannot be shown.
    """
    names = sorted(name for name in os.listdir(folder) if name.endswith(".py"))
    if len(names) > MOST_FILES:
        message = f"{shown(folder.name)} brings {len(names)} files of code, more than anybody reads."
        raise UnsafeCheckpoint(message, _HINT)
    return tuple(_source(folder, name, repository) for name in names)


def _source(folder: Path, name: str, repository: str) -> SourceFile:
    with open_plain(contained(folder, name)) as file:
        content = file.read(LONGEST_FILE + 1)
    if len(content) > LONGEST_FILE:
        raise UnsafeCheckpoint(f"{shown(name)} is code of more than {LONGEST_FILE >> 20} MiB.", _HINT)
    if not _is_shown_as_it_runs(content):
        message = f"{shown(name)} is not written in UTF-8: it would not run as it reads."
        raise UnsafeCheckpoint(message, _HINT)
    digest = hashlib.sha256(content).hexdigest()
    return SourceFile(file=CodeFile(name=name, sha256=digest, repository=repository), content=content)


def _is_shown_as_it_runs(content: bytes) -> bool:
    """Python would decode the file as the screen does: an encoding it names itself could hide anything."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        content.decode("utf-8")
    except (SyntaxError, ValueError):
        return False
    return encoding in _ENCODINGS
