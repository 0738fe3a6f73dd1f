"""Small values that are kept between runs, in private files of our own cache folder."""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
from pathlib import Path
from typing import TypeVar

import msgspec

from engine.errors import EngineError
from engine.offload import parent_folder
from engine.values import BudgetRequest

_LARGEST_FILE = 1 << 20
MOST_RATIOS = 500
FARTHEST = 3.0
"""A ratio lies between this and its inverse: beyond, something else was wrong."""

Ratios = dict[str, tuple[float, float]]
Kept = TypeVar("Kept")


def scratch_folder() -> Path:
    """Our own cache folder, which need not exist yet."""
    return parent_folder(BudgetRequest()).parent


def kept_value(path: Path, kind: type[Kept]) -> Kept | None:
    """Read what was kept; None where nothing was, or where the file is damaged, too long, or a link."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            return msgspec.json.decode(file.read(_LARGEST_FILE), type=kind)
    except (OSError, ValueError, RecursionError, EngineError):  # msgspec's own errors are ValueErrors
        return None


def keep_value(path: Path, value: object) -> bool:
    """Replace a private file as a whole; False where that cannot be."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(prefix=f"{path.name}-", dir=path.parent)
    except OSError:
        return False
    try:
        with open(descriptor, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(value)))
        os.replace(draft, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        return False
    return True


def kept_ratios(machine: str) -> Ratios:
    """What was learned on a machine, oldest first; what lies outside the bounds is left out."""
    kept = kept_value(_ratios_file(machine), Ratios) or {}
    return {key: ratios for key, ratios in kept.items() if all(map(_is_sound, ratios))}


def keep_ratios(machine: str, ratios: Ratios) -> None:
    """Keep the newest of what was learned on a machine."""
    keep_value(_ratios_file(machine), dict(list(ratios.items())[-MOST_RATIOS:]))


def _ratios_file(machine: str) -> Path:
    return scratch_folder() / f"learned-{machine}.json"


def _is_sound(ratio: float) -> bool:
    return math.isfinite(ratio) and 1 / FARTHEST <= ratio <= FARTHEST
