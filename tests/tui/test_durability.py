"""What was shown is on disk, whenever the screen's process is killed."""

from __future__ import annotations

import random
import re
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from tests.pty_driver import Terminal, gone_within
from tests.tui.chat_support import LONG, chat_terminal, write_script

_WORD = re.compile(r"word(\d+)\b")
_ACKED_SECONDS = 0.3


def last_word(text: str) -> int:
    """The newest whole word that is shown or saved; -1 for none."""
    return max((int(number) for number in _WORD.findall(text)), default=-1)


def watch(program: Terminal, seconds: float) -> tuple[int, bool]:
    """Read that long; the newest word that was shown 300 ms before the end, and whether the prompt was."""
    seen: list[tuple[float, int]] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        program.read(0.03)
        seen.append((time.monotonic(), last_word(program.text)))
    acked = [word for moment, word in seen if moment <= end - _ACKED_SECONDS]
    is_sent = any(line.strip().startswith("remember me") for line in program.text.splitlines())
    return max(acked, default=-1), is_sent


def saved(folder: Path) -> tuple[list[str], int]:
    """Prompts, and the newest word of the last reply, after the store was found whole."""
    with sqlite3.connect(folder / "home" / "sessions.db") as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
        turns = connection.execute("select id, prompt, reply from turn order by id").fetchall()
        turn_id, _, reply = turns[-1] if turns else (0, "", "")
        query = "select reply from reply_piece where turn_id = ? order by id"
        reply += "".join(piece for (piece,) in connection.execute(query, (turn_id,)))
    connection.close()
    return [prompt for _, prompt, _ in turns], last_word(reply)


def kill_while_streaming(folder: Path, seconds: float, prompt: str) -> bool:
    """Kill at that moment and compare; True when the prompt was shown as sent before."""
    with chat_terminal(folder) as program:
        program.wait_for("ready")
        children = program.children()
        program.send(f"remember me {prompt}\r")
        shown, is_sent = watch(program, seconds)
        program.kill(signal.SIGKILL)
        program.wait(5)
        assert gone_within(children, 5), "the engine outlived the screen"
    prompts, word = saved(folder)
    if is_sent:
        assert prompts[-1] == f"remember me {prompt}"
        # The word at the edge of the screen may have been half of a longer number.
        assert word >= shown - 1
    return is_sent


def check_kills(folder: Path, kills: int, seed: int) -> None:
    moments = random.Random(seed)
    write_script(folder, replies=[{"text": LONG, "tokens_per_second": 200}])
    after = [moments.uniform(0.0, 1.6) for _ in range(kills)]
    sent = [kill_while_streaming(folder, wait, f"number {n} of seed {seed}") for n, wait in enumerate(after)]
    assert sum(sent) >= kills // 2, "hardly any prompt was shown before its kill"
    with chat_terminal(folder, "-c") as program:
        program.wait_for("interrupted", 8)


@pytest.mark.parametrize("part", range(2))
def test_check_01_a_killed_screen_loses_nothing_that_was_shown(part: int, tmp_path: Path) -> None:
    check_kills(tmp_path, 7, seed=1_000 + part)


@pytest.mark.stress
@pytest.mark.timeout(3600)
def test_check_01_two_hundred_kills(tmp_path: Path) -> None:
    check_kills(tmp_path, 200, seed=random.SystemRandom().randrange(10**6))


def test_an_interrupted_reply_is_shown_and_goes_on_when_asked(tmp_path: Path) -> None:
    write_script(tmp_path, replies=[{"text": LONG, "tokens_per_second": 100}])
    with chat_terminal(tmp_path) as program:
        program.wait_for("ready")
        program.send("remember me\r")
        program.wait_for("word91")
        program.kill(signal.SIGKILL)
        program.wait(5)
    write_script(tmp_path, replies=[{"text": " onwards", "tokens_per_second": 100}])
    with chat_terminal(tmp_path, "-c") as program:
        program.wait_for("interrupted")
        program.wait_for("ready")
        program.send("/continue\r")
        program.wait_for("onwards")
        program.wait_until(lambda: "interrupted" not in program.text, "the end of the mark")


def test_check_10_a_session_that_is_open_elsewhere_can_be_read_and_names_its_holder(tmp_path: Path) -> None:
    write_script(tmp_path, replies=[{"text": "You said: {prompt}", "tokens_per_second": 0}])
    with chat_terminal(tmp_path) as first:
        first.wait_for("ready")
        first.send("mine\r")
        first.wait_for("You said: mine")
        first.wait_for("ready")
        with chat_terminal(tmp_path, "-c") as second:
            second.wait_for(f"process {first.pid}")
            second.wait_for("mine · read only")
            second.wait_for("ready")
            second.send("theirs\r")
            second.wait_for(f"process {first.pid}")
            assert "You said: theirs" not in second.text
            second.send("\x15/new\r")
            second.wait_for("new session")
            second.send("another\r")
            second.wait_for("You said: another")
