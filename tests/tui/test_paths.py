import os
import stat
from pathlib import Path

import pytest

from tui import paths
from tui.paths import FolderError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("CONFIG_HOME", "DATA_HOME", "CACHE_HOME", "STATE_HOME", "RUNTIME_DIR"):
        monkeypatch.delenv(f"XDG_{name}", raising=False)
    monkeypatch.delenv("VRAMBLE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_without_variables_everything_lies_in_the_xdg_defaults(home: Path) -> None:
    assert paths.settings_file() == home / ".config/vramble/settings.toml"
    assert paths.sessions_file() == home / ".local/share/vramble/sessions.db"
    assert paths.cache_folder() == home / ".cache/vramble"
    assert paths.engine_log() == home / ".local/state/vramble/engine.log"
    assert paths.runtime_folder() == home / ".local/state/vramble/run"


def test_the_xdg_variables_are_followed_and_relative_ones_ignored(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "fast"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home / "run"))
    monkeypatch.setenv("XDG_STATE_HOME", "here")
    assert paths.cache_folder() == home / "fast/vramble"
    assert paths.runtime_folder() == home / "run/vramble"
    assert paths.state_folder() == home / ".local/state/vramble"


def test_vramble_home_moves_everything_together(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "fast"))
    monkeypatch.setenv("VRAMBLE_HOME", "~/all")
    root = home / "all"
    assert paths.settings_file() == root / "settings.toml"
    assert paths.sessions_file() == root / "sessions.db"
    assert paths.cache_folder() == root / "cache"
    assert paths.runtime_folder() == root / "state/run"


def test_naming_the_settings_makes_no_folder(home: Path) -> None:
    assert not paths.settings_file().parent.exists()
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o277])
def test_what_is_made_is_private_whatever_the_umask(home: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        paths.private_folder(home / "a")
        paths.write_private(home / "a/settings.toml", "x = 1\n")
    finally:
        os.umask(before)
    assert mode(home / "a") == 0o700
    assert mode(home / "a/settings.toml") == 0o600


def test_a_loose_folder_of_ours_is_tightened(home: Path) -> None:
    (home / "loose").mkdir(mode=0o755)
    assert mode(paths.private_folder(home / "loose")) == 0o700


def test_a_symbolic_link_is_refused_and_its_goal_named(home: Path) -> None:
    (home / "real").mkdir()
    (home / "link").symlink_to(home / "real")
    with pytest.raises(FolderError) as caught:
        paths.private_folder(home / "link")
    assert "symbolic link" in caught.value.message
    assert str(home / "real") in caught.value.hint


def test_a_file_in_the_folder_s_place_is_refused(home: Path) -> None:
    (home / "file").write_text("")
    with pytest.raises(FolderError):
        paths.private_folder(home / "file")


def test_somebody_else_s_folder_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(FolderError, match="belongs to another user"):
        paths.private_folder(home / "theirs")


def test_a_folder_that_cannot_be_made_is_a_sentence(home: Path) -> None:
    (home / "file").write_text("")
    with pytest.raises(FolderError, match="cannot be used") as caught:
        paths.private_folder(home / "file" / "below")
    assert "VRAMBLE_HOME" in caught.value.hint


def test_writing_replaces_the_file_whole_and_leaves_nothing_beside_it(home: Path) -> None:
    file = home / "a/settings.toml"
    paths.write_private(file, "old")
    paths.write_private(file, "new")
    assert file.read_text() == "new"
    assert list(file.parent.iterdir()) == [file]


def test_a_failed_write_leaves_the_old_text(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = home / "a/settings.toml"
    paths.write_private(file, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        paths.write_private(file, "new")
    assert file.read_text() == "old"
    assert list(file.parent.iterdir()) == [file]
