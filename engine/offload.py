"""Folders for tensors of the disk tier that must be rewritten: private, gone with their engine."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from engine.values import BudgetRequest

_PREFIX = "vramble-offload-"


def parent_folder(request: BudgetRequest) -> Path:
    """Where such folders are made: where the person chose, else in our own cache."""
    if request.disk_folder is not None:
        return request.disk_folder
    home = os.environ.get("VRAMBLE_HOME")
    if home:
        return Path(home) / "cache" / "offload"
    cache = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(cache) if os.path.isabs(cache) else Path.home() / ".cache"
    return base / "vramble" / "offload"


def make_folder(parent: Path) -> Path:
    """Make a folder of this process's own, and remove those of engines that no longer run."""
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    sweep(parent)
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent))


def sweep(parent: Path) -> None:
    """Remove the folders of engines that no longer run."""
    for folder in leftovers(parent):
        shutil.rmtree(folder, ignore_errors=True)


def leftovers(parent: Path) -> list[Path]:
    """The folders of engines that no longer run."""
    found = parent.glob(f"{_PREFIX}*")
    return [folder for folder in found if not is_running(folder.name.removeprefix(_PREFIX).partition("-")[0])]


def is_running(pid: str) -> bool:
    """Say whether a process of that number runs."""
    return pid.isdigit() and Path(f"/proc/{pid}").exists()
