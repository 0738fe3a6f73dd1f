"""Which way a copy takes, and that nothing but the copy key reaches the clipboard."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path

import pytest

from tests.tui.chat_support import chat_terminal, write_script
from tui.clipboard import MOST_OSC52_BYTES, copy, osc52


@pytest.fixture
def written() -> list[str]:
    return []


def test_outside_tmux_a_copy_goes_to_the_terminal_and_a_private_file(
    tmp_path: Path, written: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TMUX", raising=False)
    file = tmp_path / "copy.txt"
    notice = copy("héllo 中文", written.append, file)
    assert written == [f"\x1b]52;c;{base64.b64encode('héllo 中文'.encode()).decode()}\a"]
    assert file.read_text() == "héllo 中文"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "OSC 52" in notice
    assert str(file) in notice


def test_a_text_too_long_for_the_terminal_goes_to_the_file_alone(
    tmp_path: Path, written: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TMUX", raising=False)
    notice = copy("x" * MOST_OSC52_BYTES, written.append, tmp_path / "copy.txt")
    assert not written
    assert "Too long" in notice


def test_the_longest_sequence_is_100_kb() -> None:
    assert osc52("x" * (MOST_OSC52_BYTES * 3 // 4 - 100)) is not None
    assert osc52("x" * MOST_OSC52_BYTES) is None


def test_inside_tmux_its_buffer_is_loaded(
    tmp_path: Path, written: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tmux = tmp_path / "tmux"
    tmux.write_text(f'#!/bin/sh\n[ "$2" = -w ] && exit 1\ncat > {tmp_path}/buffer\n')
    tmux.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("TMUX", "/tmp/tmux-0/default,1,0")
    notice = copy("through tmux", written.append, tmp_path / "copy.txt")
    assert (tmp_path / "buffer").read_text() == "through tmux"
    assert not written
    assert "tmux" in notice


def test_a_symlink_is_not_followed(
    tmp_path: Path, written: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TMUX", raising=False)
    (tmp_path / "target").write_text("precious")
    (tmp_path / "copy.txt").symlink_to(tmp_path / "target")
    copy("overwritten?", written.append, tmp_path / "copy.txt")
    assert (tmp_path / "target").read_text() == "precious"


def test_check_18_only_the_copy_key_reaches_the_clipboard(tmp_path: Path) -> None:
    hostile = "\x1b]52;c;aG9zdGlsZQ==\x07 and \x9d52;c;aG9zdGlsZQ==\x9c said"
    write_script(tmp_path, replies=[{"text": hostile, "tokens_per_second": 0}])
    with chat_terminal(tmp_path) as program:
        program.wait_for("ready")
        program.send("speak\r")
        program.wait_for("said")
        program.wait_for("tok ·")
        assert b"]52;" not in program.raw.replace(b"\xe2\x90\x9b]52;", b"")
        program.send("\x19")
        program.wait_for("also in")
        sequences = program.raw.split(b"\x1b]52;c;")[1:]
        assert len(sequences) == 1
        copied = base64.b64decode(sequences[0].split(b"\a")[0]).decode()
        assert "and" in copied
        assert len(sequences[0]) <= MOST_OSC52_BYTES
