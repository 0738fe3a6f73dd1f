"""The folders vramble writes to: that they are ours alone, and how much room they have."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from tui import paths
from tui.format import format_size
from tui.settings import SettingsError, read_settings
from tui.verbs.checks.finding import Finding, fail, ok, warn

_FOLDERS: dict[str, Callable[[], Path]] = {
    "sessions": lambda: paths.sessions_file().parent,
    "cache": paths.cache_folder,
    "state": paths.state_folder,
    "sockets": paths.runtime_folder,
}
_LITTLE_FOR_TEXT = 100 * 2**20
_LITTLE_FOR_WEIGHTS = 10 * 2**30


def check_places() -> list[Finding]:
    """Look at the settings, and at every folder."""
    return [_settings(), *(_folder(name, find) for name, find in _FOLDERS.items())]


def _settings() -> Finding:
    file = paths.settings_file()
    try:
        read_settings(file)
    except SettingsError as broken:
        return fail("settings", broken.message, broken.hint)
    if not file.exists():
        return ok("settings", f"{file} is not there yet: defaults hold.")
    if file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return warn("settings", f"{file} can be read by others.", f"Run `chmod 600 {file}`.")
    return ok("settings", f"{file}.")


def _folder(name: str, find: Callable[[], Path]) -> Finding:
    try:
        folder = find()
    except paths.FolderError as refused:
        return fail(name, refused.message, refused.hint)
    if not os.access(folder, os.W_OK | os.X_OK):
        return fail(name, f"{folder} cannot be written to.", "Set VRAMBLE_HOME to a folder you can write to.")
    return _room(name, folder)


def _room(name: str, folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    found = f"{folder} is yours alone; {format_size(free)} free."
    if free < _LITTLE_FOR_TEXT:
        return warn(name, found, "Make room: saved talk and logs need it.")
    if name == "cache" and free < _LITTLE_FOR_WEIGHTS:
        return warn(name, found, "Offloaded tensors may need more: make room, or give `--disk DIR`.")
    return ok(name, found)
