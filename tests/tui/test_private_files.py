"""What the program leaves on the disk is its owner's alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tui.chat_support import chat_terminal, write_script


@pytest.fixture(params=[0o000, 0o002, 0o022], ids=["000", "002", "022"])
def loose_umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes_below(folder: Path) -> dict[str, str]:
    """The permissions of everything in a folder, the folder too, links left out."""
    paths = [folder, *(path for path in folder.rglob("*") if not path.is_symlink())]
    return {str(path.relative_to(folder)): stat.filemode(path.stat().st_mode) for path in paths}


def test_check_14_everything_a_talk_leaves_behind_is_private(tmp_path: Path, loose_umask: int) -> None:
    write_script(tmp_path, replies=[{"text": "a short reply"}])
    with chat_terminal(tmp_path) as program:
        program.wait_for("ready")
        program.send("hello\r")
        program.wait_for("a short reply")
        program.send("\x19")
        program.wait_for("clipboard")
        program.send(f"/export {tmp_path / 'home' / 'talk.md'}\r")
        program.wait_for("Written")
        program.send("/theme paper\r")
        program.send("\x11")
        program.wait(10)
    modes = modes_below(tmp_path / "home")
    assert {"sessions.db", "settings.toml"} <= {Path(name).name for name in modes}
    assert any(name.endswith(".md") for name in modes)
    loose = {name: mode for name, mode in modes.items() if mode not in {"drwx------", "-rw-------"}}
    assert loose == {}, f"umask {loose_umask:03o}"
