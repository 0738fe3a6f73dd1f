"""The code that loading a model would run, by the repositories that bring it, found on this disk alone."""

from __future__ import annotations

from pathlib import Path

from engine.checkpoint.files import shown
from engine.checkpoint.own_code import SourceFile, own_classes, read_sources
from engine.errors import UnsafeCheckpoint
from engine.hub.places import huggingface_snapshots, ref_at
from engine.values import CodeFile, ModelRef, Value


class CodeOrigin(Value, frozen=True, kw_only=True):
    """One repository's code.

    Attributes:
        repository: "huggingface:owner/name", "modelscope:owner/name", or the path of a folder.
        revision: its commit; empty for a folder.
        folder: where it lies.
        is_foreign: the model names it, and another repository brings it.
        sources: its files, sorted by name.
    """

    repository: str
    revision: str
    folder: Path
    is_foreign: bool
    sources: tuple[SourceFile, ...]

    @property
    def files(self) -> tuple[CodeFile, ...]:
        """The files without what they say."""
        return tuple(source.file for source in self.sources)


def code_of(folder: Path) -> tuple[CodeOrigin, ...]:
    """The code that loading a model folder would run: the model's own repository, then others it names.

    Raises:
        DamagedCheckpoint: a config or a file of code cannot be read.
        UnsafeCheckpoint: the code cannot be shown, names no class for text, or is not on this disk.
    """
    classes = own_classes(folder)
    if classes is None:
        message = f"{shown(folder.name)} names no class of its own that writes text."
        raise UnsafeCheckpoint(message, "Choose a model that transformers knows itself.")
    origins = tuple(
        _foreign(repository) if repository else _own(folder) for repository in classes.repositories
    )
    brought = {(file.repository, file.name) for origin in origins for file in origin.files}
    for reference in filter(None, classes):
        if (reference.repository, f"{reference.module}.py") not in brought:
            where = shown(reference.repository or folder.name)
            message = f"{where} names {shown(reference.module)}.py as its code, and the file is not there."
            raise UnsafeCheckpoint(message, "Get the model again, with its code.")
    return origins


def _own(folder: Path) -> CodeOrigin:
    return _origin(ref_at(folder), read_sources(folder), is_foreign=False)


def _foreign(repository: str) -> CodeOrigin:
    """A repository that the model's own names as `owner/name--module.Class`."""
    for ref in huggingface_snapshots():
        if ref.repo_id == repository:
            return _origin(ref, read_sources(ref.folder, repository), is_foreign=True)
    message = f"It would run code of another repository, {shown(repository)}, which is not on this disk."
    raise UnsafeCheckpoint(
        message, f"`hf download {shown(repository)}` gets it; vramble loads no code from a hub."
    )


def _origin(ref: ModelRef, sources: tuple[SourceFile, ...], *, is_foreign: bool) -> CodeOrigin:
    repository = f"{ref.hub}:{ref.repo_id}" if ref.hub else str(ref.folder)
    return CodeOrigin(
        repository=repository,
        revision=ref.revision,
        folder=ref.folder,
        is_foreign=is_foreign,
        sources=sources,
    )
