"""Line mode, for terminals without a screen."""

from __future__ import annotations

import signal
import sqlite3
from pathlib import Path

import pytest

from tests.tui.chat_support import LONG, chat_terminal, write_script

HELLO = {"text": "You said: {prompt}", "tokens_per_second": 0}


def escapes(raw: bytearray) -> int:
    return raw.count(b"\x1b")


@pytest.mark.parametrize("term", ["dumb", ""])
def test_a_terminal_without_a_screen_gets_lines(term: str, tmp_path: Path) -> None:
    write_script(tmp_path, replies=[HELLO])
    with chat_terminal(tmp_path, env={"TERM": term}) as program:
        program.wait_for("\n>")
        program.send("hello\r")
        program.wait_for("You said: hello")
        program.send("/keys\r")
        program.wait_for("needs a screen")
        program.send("/new\r/quit\r")
        assert program.wait(5) == 0
        assert escapes(program.raw) == 0


def test_lines_can_be_asked_for_and_resumed(tmp_path: Path) -> None:
    write_script(tmp_path, replies=[HELLO])
    with chat_terminal(tmp_path, "--plain") as program:
        program.wait_for("\n>")
        program.send("remember seven\r")
        program.wait_for("You said: remember seven")
        program.wait_for("tok")
        program.send("\x04")
        assert program.wait(5) == 0
    with chat_terminal(tmp_path, "--plain", "-c") as program:
        program.wait_for("You said: remember seven")
        program.send("/quit\r")
        assert program.wait(5) == 0


def test_control_c_stops_the_reply_and_keeps_it(tmp_path: Path) -> None:
    write_script(tmp_path, replies=[{"text": LONG, "tokens_per_second": 100}])
    with chat_terminal(tmp_path, "--plain") as program:
        program.wait_for("\n>")
        program.send("tell me\r")
        program.wait_for("word30")
        program.send("\x03")
        program.wait_for("[stopped]")
        program.send("/quit\r")
        assert program.wait(5) == 0
    connection = sqlite3.connect(tmp_path / "home" / "sessions.db")
    (state, reply) = connection.execute("select state, reply from turn").fetchone()
    connection.close()
    assert state == "stopped"
    assert "word30" in reply


def test_hostile_text_is_harmless_in_lines_too(tmp_path: Path) -> None:
    write_script(tmp_path, replies=[{"text": "a\x1b]0;owned\x07b\x1b[2Jc", "tokens_per_second": 0}])
    with chat_terminal(tmp_path, "--plain") as program:
        program.wait_for("\n>")
        program.send("speak\r")
        program.wait_for("tok")
        assert escapes(program.raw) == 0


def test_a_signal_ends_it_and_leaves_no_engine(tmp_path: Path) -> None:
    write_script(tmp_path, replies=[HELLO])
    with chat_terminal(tmp_path, "--plain") as program:
        program.wait_for("\n>")
        children = program.children()
        assert children
        program.kill(signal.SIGTERM)
        assert program.wait(5) == 128 + signal.SIGTERM
        assert not [child for child in children if child.is_running()]
