"""Where things lie: XDG folders, or all of them under VRAMBLE_HOME; everything 0600 and 0700."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

APP = "vramble"
FOLDER_MODE = 0o700
FILE_MODE = 0o600


class FolderError(Exception):
    """A folder that is not safely ours; `message` says why, `hint` the next step."""

    def __init__(self, message: str, hint: str) -> None:
        """Keep the sentence and the next step.

        Args:
            message: what is wrong with the folder.
            hint: what the person can do.
        """
        super().__init__(f"{message} {hint}")
        self.message = message
        self.hint = hint


def settings_file() -> Path:
    """The settings' place; neither the file nor its folder is made here."""
    return _place("XDG_CONFIG_HOME", ".config", "") / "settings.toml"


def sessions_file() -> Path:
    """The session store's place, in a private folder. Raises FolderError."""
    return private_folder(_place("XDG_DATA_HOME", ".local/share", "")) / "sessions.db"


def cache_folder() -> Path:
    """A private folder for downloads, offloaded tensors and measured limits. Raises FolderError."""
    return private_folder(_place("XDG_CACHE_HOME", ".cache", "cache"))


def state_folder() -> Path:
    """A private folder for logs, crash reports and rescued text. Raises FolderError."""
    return private_folder(_place("XDG_STATE_HOME", ".local/state", "state"))


def runtime_folder() -> Path:
    """A private folder for sockets; below the state folder where the system offers none."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.environ.get("VRAMBLE_HOME") or not os.path.isabs(runtime):
        return private_folder(state_folder() / "run")
    return private_folder(Path(runtime, APP))


def engine_log() -> Path:
    """Where the engine process writes what it says. Raises FolderError."""
    return state_folder() / "engine.log"


def _place(variable: str, below_home: str, below_vramble_home: str) -> Path:
    moved = os.environ.get("VRAMBLE_HOME")
    if moved:
        return Path(moved).expanduser().absolute() / below_vramble_home
    base = os.environ.get(variable, "")
    # The XDG specification: a relative path is invalid and is to be ignored.
    return (Path(base) if os.path.isabs(base) else Path.home() / below_home) / APP


def private_folder(folder: Path) -> Path:
    """Make a folder 0700, or tighten the one that is there, and return it.

    Raises:
        FolderError: it is a symlink, no folder, somebody else's, or cannot be made.
    """
    try:
        folder.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
        found = folder.lstat()
        _refuse_foreign(folder, found)
        if stat.S_IMODE(found.st_mode) != FOLDER_MODE:
            folder.chmod(FOLDER_MODE)
    except OSError as error:
        message = f"The folder {folder} cannot be used: {error.strerror or error}."
        raise FolderError(message, "Set VRAMBLE_HOME to a folder you can write to.") from error
    return folder


def _refuse_foreign(folder: Path, found: os.stat_result) -> None:
    if stat.S_ISLNK(found.st_mode):
        hint = f"Set VRAMBLE_HOME to a real folder, for example {folder.resolve()}."
        raise FolderError(f"The folder {folder} is a symbolic link, which others may move.", hint)
    if not stat.S_ISDIR(found.st_mode):
        raise FolderError(f"{folder} is not a folder.", "Move it away, or set VRAMBLE_HOME.")
    if found.st_uid != os.geteuid():
        hint = "Set VRAMBLE_HOME to a folder of your own."
        raise FolderError(f"The folder {folder} belongs to another user (uid {found.st_uid}).", hint)


def write_private(file: Path, text: str) -> None:
    """Replace a file's text in one step, 0600: a crash leaves the old text or the new one.

    Raises:
        FolderError: its folder is not safely ours.
        OSError: it cannot be written.
    """
    folder = private_folder(file.parent)
    descriptor, written = tempfile.mkstemp(prefix=f".{file.name}.", dir=folder)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            os.fchmod(stream.fileno(), FILE_MODE)
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(written, file)
    except OSError:
        Path(written).unlink(missing_ok=True)
        raise
