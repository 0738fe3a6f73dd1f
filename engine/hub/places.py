"""Where models lie on this machine: folders, the hubs' caches, and the built-in one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from engine.guide import FOLDER
from engine.values import Hub, ModelRef

GUIDE = "guide"
_HUGGINGFACE_PREFIX = "models--"
_MASKED_DOT = "___"
_NOT_MODELS = ("datasets", "_temp", "temp", "hub", "models", "._____temp")


def guide() -> ModelRef:
    """The built-in model."""
    return ModelRef(name=GUIDE, folder=FOLDER)


def all_places(folders: tuple[Path, ...]) -> Iterator[ModelRef]:
    """Every folder that may be a model, each once: the guide, the given folders, the caches.

    Args:
        folders: each a model, or the parent or grandparent of models.
    """
    seen: set[str] = set()
    for ref in _candidates(folders):
        real = os.path.realpath(ref.folder)
        if real not in seen and os.path.lexists(ref.folder / "config.json"):
            seen.add(real)
            yield ref


def _candidates(folders: tuple[Path, ...]) -> Iterator[ModelRef]:
    yield guide()
    for folder in folders:
        yield from _given(folder.expanduser())
    for cache in huggingface_caches():
        yield from _huggingface(cache)
    for cache in modelscope_caches():
        yield from _modelscope(cache)


def _given(folder: Path) -> Iterator[ModelRef]:
    """The folder itself, its children, and the children of those that are no models."""
    if _is_model(folder):
        yield ModelRef(name=folder.name, folder=folder)
        return
    for child in _children(folder):
        if _is_model(child):
            yield ModelRef(name=child.name, folder=child)
        else:
            names = ((f"{child.name}/{model.name}", model) for model in _children(child))
            yield from (ModelRef(name=name, folder=model) for name, model in names)


def huggingface_caches() -> tuple[Path, ...]:
    """The Hugging Face cache, where its own variables put it."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if path := os.environ.get(variable):
            return (Path(path).expanduser(),)
    if path := os.environ.get("HF_HOME"):
        return (Path(path).expanduser() / "hub",)
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return (Path(base).expanduser() / "huggingface" / "hub",)


def modelscope_caches() -> tuple[Path, ...]:
    """Roots below which ModelScope's versions, old and new, lay owner/name out."""
    path = os.environ.get("MODELSCOPE_CACHE") or "~/.cache/modelscope"
    base = Path(path).expanduser()
    return base / "hub" / "models", base / "hub", base / "models", base


def _huggingface(cache: Path) -> Iterator[ModelRef]:
    for repository in _children(cache):
        if not repository.name.startswith(_HUGGINGFACE_PREFIX):
            continue
        repo_id = repository.name.removeprefix(_HUGGINGFACE_PREFIX).replace("--", "/")
        snapshot = _snapshot(repository)
        if snapshot is not None:
            yield ModelRef(
                name=repo_id,
                folder=snapshot,
                hub=Hub.HUGGINGFACE,
                repo_id=repo_id,
                revision=snapshot.name,
            )


def _snapshot(repository: Path) -> Path | None:
    """The snapshot of `main` where there is one, else the latest."""
    snapshots = _children(repository / "snapshots")
    try:
        main = (repository / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        main = ""
    return max(snapshots, key=lambda path: (path.name == main, _modified(path)), default=None)


def _modelscope(cache: Path) -> Iterator[ModelRef]:
    for owner in _children(cache):
        if owner.name in _NOT_MODELS or owner.name.startswith("."):
            continue
        for model in _children(owner):
            repo_id = f"{owner.name}/{model.name}".replace(_MASKED_DOT, ".")
            yield ModelRef(name=repo_id, folder=model, hub=Hub.MODELSCOPE, repo_id=repo_id)


def _is_model(folder: Path) -> bool:
    """It holds a config.json; False where that cannot be known."""
    return os.path.exists(folder / "config.json")


def _children(folder: Path) -> list[Path]:
    """Sub-folders by name; none where the folder cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir())
    except OSError:
        return []


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
