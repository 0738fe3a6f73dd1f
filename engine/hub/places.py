"""Where models lie on this machine: folders, the hubs' caches, and the built-in one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from engine.checkpoint.adapter import has_adapter
from engine.guide import FOLDER
from engine.values import Hub, ModelRef

GUIDE = "guide"
HUGGINGFACE_DEFAULT = "main"
MODELSCOPE_DEFAULT = "master"
"""What each hub calls the branch that is meant where none is named."""
_HUGGINGFACE_PREFIX = "models--"
MASKED_DOT = "___"
"""What ModelScope's versions up to 1.37 write for a dot in a model's name."""
_COMMIT, _COMMIT_SHOWN = 40, 12
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
        if real not in seen and _says_what_it_is(ref.folder):
            seen.add(real)
            yield ref


def _says_what_it_is(folder: Path) -> bool:
    """A model's config lies there, or an adapter's."""
    return os.path.lexists(folder / "config.json") or has_adapter(folder)


def ref_at(folder: Path) -> ModelRef:
    """The model in a folder of a hub's cache, as the list calls it."""
    return next((ref for ref in all_places(()) if ref.folder == folder), _folder_ref(folder))


def _folder_ref(folder: Path) -> ModelRef:
    return ModelRef(name=folder.name or str(folder), folder=folder)


def _candidates(folders: tuple[Path, ...]) -> Iterator[ModelRef]:
    yield guide()
    for folder in folders:
        yield from _given(folder.expanduser())
    for cache in huggingface_caches():
        yield from _huggingface(cache)
    yield from _modelscope(modelscope_base())


def _given(folder: Path) -> Iterator[ModelRef]:
    """The folder itself, its children, and the children of those that are no models."""
    if _is_model(folder):
        yield _folder_ref(folder)
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


def modelscope_base() -> Path:
    """The ModelScope cache, where its own variable puts it."""
    return Path(os.environ.get("MODELSCOPE_CACHE") or "~/.cache/modelscope").expanduser()


def modelscope_caches() -> tuple[Path, ...]:
    """Roots below which ModelScope's versions up to 1.37 lay owner/name out."""
    base = modelscope_base()
    return base / "hub" / "models", base / "hub", base / "models", base


def _huggingface(cache: Path) -> Iterator[ModelRef]:
    for repository in _children(cache):
        if repository.name.startswith(_HUGGINGFACE_PREFIX):
            repo_id = repository.name.removeprefix(_HUGGINGFACE_PREFIX).replace("--", "/")
            yield from _snapshots(repository, Hub.HUGGINGFACE, repo_id)


def huggingface_snapshots() -> Iterator[ModelRef]:
    """Every snapshot of the Hugging Face caches, whether it is a model or only code."""
    for cache in huggingface_caches():
        yield from _huggingface(cache)


def _names(repository: Path, hub: Hub, snapshots: list[Path]) -> dict[str, str]:
    """The branches, tags and commits that snapshots were asked for by."""
    if len(snapshots) == 1 or hub is Hub.MODELSCOPE:
        return {path.name: path.name for path in snapshots}
    return _refs(repository)


def _refs(repository: Path) -> dict[str, str]:
    """What the commits are called; the default branch comes last, so that its name stands."""
    refs: dict[str, str] = {}
    for parent, _, names in sorted(os.walk(repository / "refs"), reverse=True):
        for path in (Path(parent, name) for name in sorted(names, key=HUGGINGFACE_DEFAULT.__eq__)):
            try:
                refs[path.read_text(encoding="ascii").strip()] = str(path.relative_to(repository / "refs"))
            except (OSError, ValueError):
                continue
    return refs


def _snapshots(repository: Path, hub: Hub, repo_id: str) -> Iterator[ModelRef]:
    """The default branch's snapshot, else the latest, bears the name alone; others with names add theirs."""
    snapshots = _children(repository / "snapshots")
    refs = _names(repository, hub, snapshots)
    defaults = {HUGGINGFACE_DEFAULT, MODELSCOPE_DEFAULT}
    best = max(
        snapshots,
        key=lambda path: (refs.get(path.name, path.name) in defaults, _modified(path)),
        default=None,
    )
    for snapshot in snapshots:
        revision = refs.get(snapshot.name, "")
        if snapshot == best or revision:
            name = repo_id if snapshot == best else f"{repo_id}@{_shortened(revision)}"
            yield ModelRef(name=name, folder=snapshot, hub=hub, repo_id=repo_id, revision=snapshot.name)


def _shortened(revision: str) -> str:
    return revision[:_COMMIT_SHOWN] if len(revision) == _COMMIT else revision


def _modelscope(base: Path) -> Iterator[ModelRef]:
    """The layout since 1.38 first; a model that lies in both is listed once."""
    seen = set()
    for repository in _children(base / "models"):
        owner, dashes, name = repository.name.partition("--")
        if dashes:
            for ref in _snapshots(repository, Hub.MODELSCOPE, f"{owner}/{name}"):
                seen.add(ref.repo_id)
                yield ref
    for cache in modelscope_caches():
        yield from (ref for ref in _older_modelscope(cache) if ref.repo_id not in seen)


def _older_modelscope(cache: Path) -> Iterator[ModelRef]:
    for owner in _children(cache):
        if owner.name in _NOT_MODELS or owner.name.startswith(".") or "--" in owner.name:
            continue
        for model in _children(owner):
            repo_id = f"{owner.name}/{model.name}".replace(MASKED_DOT, ".")
            yield ModelRef(name=repo_id, folder=model, hub=Hub.MODELSCOPE, repo_id=repo_id)


def _is_model(folder: Path) -> bool:
    """It holds a config.json, or an adapter's; False where that cannot be known."""
    return os.path.exists(folder / "config.json") or has_adapter(folder)


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
