"""Which model a word means: a folder, a hub's name, or a name from the list."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from pathlib import Path

from engine.checkpoint.files import shown
from engine.errors import UnknownModel
from engine.hub.adapters import is_adapter, with_base
from engine.hub.places import GUIDE, all_places, guide
from engine.hub.repositories import PREFIXES
from engine.values import ModelRef

_PATH_STARTS = ("/", "./", "../", "~")
_MOST_NEAR_NAMES = 3
_PATH_LIMIT = 1024
"""Characters: a path that is cut cannot be given instead."""


def find_model(name: str, folders: tuple[Path, ...] = ()) -> ModelRef:
    """The model that a word of the command line means.

    Args:
        name: a folder, `hf:owner/name`, `ms:owner/name`, `guide`, a listed name or its last part.
        folders: where else to look than in the hubs' caches.

    Raises:
        UnknownModel: nothing, or more than one model, answers to the name.
    """
    if name == GUIDE:
        return guide()
    path = _path(name)
    if path is not None and (_is_written_as_path(name) or os.path.isfile(path / "config.json")):
        return _found(_folder_ref(path), folders)
    refs = list(all_places(folders))
    matches = _matches(name, refs)
    if len(matches) == 1:
        return with_base(matches[0], refs)
    if path is not None and not matches and os.path.exists(path):
        return with_base(_folder_ref(path), refs)
    raise _unknown(name, matches, refs)


def _found(ref: ModelRef, folders: tuple[Path, ...]) -> ModelRef:
    """A folder as a model; the disk is looked through only for an adapter's base."""
    return with_base(ref, all_places(folders)) if is_adapter(ref) else ref


def _path(name: str) -> Path | None:
    return Path(os.path.abspath(os.path.expanduser(name))) if name.strip() and "\0" not in name else None


def _is_written_as_path(name: str) -> bool:
    return name.startswith(_PATH_STARTS) or name in {".", ".."}


def _folder_ref(path: Path) -> ModelRef:
    return ModelRef(name=path.name or str(path), folder=path)


def _matches(name: str, refs: Iterable[ModelRef]) -> list[ModelRef]:
    """Models of exactly this name; else those whose last part it is."""
    hub = PREFIXES.get(name[:3])
    wanted = (name[3:] if hub else name).casefold()
    candidates = [ref for ref in refs if hub is None or ref.hub is hub]
    exact = [ref for ref in candidates if wanted == ref.name.casefold()]
    return exact or [ref for ref in candidates if wanted and ref.name.casefold().endswith(f"/{wanted}")]


def _unknown(name: str, matches: list[ModelRef], refs: list[ModelRef]) -> UnknownModel:
    if matches:
        places = ", ".join(_address(ref) for ref in matches)
        return UnknownModel(f"{shown(name)} may mean {places}.", "Give one of these instead.")
    hub = PREFIXES.get(name[:3])
    bare = name[3:] if hub else name
    near = _near(bare, refs)
    hint = f"Did you mean {', '.join(near)}? " if near else ""
    step = f"`vramble pull {shown(name)}` gets it." if hub else "`vramble models` lists what is here."
    return UnknownModel(f"No model on this machine is called {shown(name)}.", hint + step)


def _address(ref: ModelRef) -> str:
    """What names this model and no other."""
    prefix = next((prefix for prefix, hub in PREFIXES.items() if hub is ref.hub), "")
    return shown(f"{prefix}{ref.repo_id}") if prefix else shown(ref.folder, _PATH_LIMIT)


def _near(name: str, refs: list[ModelRef]) -> list[str]:
    """Listed names that look like this one, by their whole and by their last part."""
    spellings = {ref.name.casefold(): ref.name for ref in refs}
    spellings |= {ref.name.rpartition("/")[2].casefold(): ref.name for ref in refs}
    close = difflib.get_close_matches(name.casefold(), spellings, _MOST_NEAR_NAMES)
    return list(dict.fromkeys(shown(spellings[word]) for word in close))
