"""However the program is ended, the terminal is given back, the text is saved and no child is left."""

from __future__ import annotations

import re
import signal
import sqlite3
import time
from pathlib import Path

import psutil
import pytest

from tests.pty_driver import Terminal, gone_within
from tests.tui.chat_support import LONG, chat_terminal, write_script

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
MODES = {1049, 1000, 1003, 1006, 1015, 2004, 1004, 2048}
STATES = ("starting", "idle", "loading", "prefill", "streaming", "dialog")


def script_for(state: str, folder: Path) -> None:
    load = {"seconds": 60, "steps": 600} if state == "loading" else {}
    delay = 60 if state == "prefill" else 0
    reply = {"text": LONG, "tokens_per_second": 200, "delay_seconds": delay}
    write_script(folder, replies=[reply], load=load)


def bring_to(state: str, program: Terminal) -> None:
    if state == "starting":
        program.wait_until(lambda: b"\x1b[?1049h" in program.raw, "the alternate screen")
        return
    program.wait_for("sends")
    if state == "loading":
        program.wait_for("Esc stops")
        return
    program.wait_for("ready")
    if state in {"prefill", "streaming"}:
        program.send("tell me\r")
        program.wait_for("word9" if state == "streaming" else "prefill")
    if state == "dialog":
        program.send("\x12")
        program.wait_for("Esc close")


def end_and_check(program: Terminal, number: signal.Signals) -> None:
    children = program.children()
    sent_at = time.monotonic()
    program.kill(number)
    exit_code = program.wait(5)
    assert time.monotonic() - sent_at <= 2.5, "exit took too long"
    assert exit_code == 128 + number
    assert program.attributes == program.attributes_before
    assert not program.modes_on() & MODES
    assert 25 in program.modes_on(), "the cursor is off"
    assert program.kitty_depth() <= 0
    assert gone_within(children, 5)


def saved_reply(folder: Path) -> str:
    with sqlite3.connect(folder / "home" / "sessions.db") as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
        rows = connection.execute("select reply from turn union all select reply from reply_piece").fetchall()
    connection.close()
    return "".join(reply for (reply,) in rows)


@pytest.mark.parametrize("state", STATES)
def test_check_03_every_signal_in_every_state_ends_in_order(state: str, tmp_path: Path) -> None:
    script_for(state, tmp_path)
    for number in SIGNALS:
        with chat_terminal(tmp_path) as program:
            bring_to(state, program)
            end_and_check(program, number)
    if state == "streaming":
        assert "word9" in saved_reply(tmp_path)


@pytest.mark.stress
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("state", STATES)
def test_check_03_fifty_times_each(state: str, tmp_path: Path) -> None:
    for _ in range(50):
        test_check_03_every_signal_in_every_state_ends_in_order(state, tmp_path)


def ignore_hangup() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


@pytest.mark.parametrize("ignores_hangup", [True, False])
def test_check_04_a_lost_terminal_ends_the_program_and_keeps_the_text(
    ignores_hangup: bool, tmp_path: Path
) -> None:
    script_for("streaming", tmp_path)
    before_exec = ignore_hangup if ignores_hangup else None
    for _ in range(3):
        with chat_terminal(tmp_path, before_exec=before_exec) as program:
            bring_to("streaming", program)
            process = psutil.Process(program.pid)
            children = program.children()
            used_before = sum(process.cpu_times()[:2])
            program.close_master()
            program.wait(5, reading=False)
            assert gone_within(children, 5)
            assert used_before >= 0
    assert "word9" in saved_reply(tmp_path)


def test_check_05_a_stalled_terminal_neither_holds_up_the_journal_nor_the_exit(tmp_path: Path) -> None:
    script_for("streaming", tmp_path)
    with chat_terminal(tmp_path) as program:
        bring_to("streaming", program)
        time.sleep(4)
        first = len(saved_reply(tmp_path))
        time.sleep(2)
        second = len(saved_reply(tmp_path))
        assert second > first, "nothing was saved while the terminal did not read"
        children = program.children()
        program.kill(signal.SIGTERM)
        program.wait(3.5, reading=False)
        assert gone_within(children, 5)


def test_a_terminal_that_reads_again_shows_the_whole_screen(tmp_path: Path) -> None:
    write_script(tmp_path, replies=[{"text": LONG, "tokens_per_second": 400}])
    with chat_terminal(tmp_path) as program:
        bring_to("streaming", program)
        time.sleep(6)
        program.send("\x1b")
        program.wait_for("stopped", 10)
        program.wait_for("ready", 10)
        assert "vramble" in program.text.splitlines()[0]


def test_quitting_by_key_gives_the_terminal_back(tmp_path: Path) -> None:
    script_for("streaming", tmp_path)
    with chat_terminal(tmp_path) as program:
        bring_to("streaming", program)
        children = program.children()
        program.send("\x11")
        assert program.wait(5) == 0
        assert program.attributes == program.attributes_before
        assert not program.modes_on() & MODES
        assert gone_within(children, 5)


def test_no_color_leaves_no_colour_at_all(tmp_path: Path) -> None:
    write_script(
        tmp_path, replies=[{"text": "# Head\n\n`code` and\n\n```python\nx = 1\n```", "tokens_per_second": 0}]
    )
    with chat_terminal(tmp_path, env={"NO_COLOR": "1"}) as program:
        program.wait_for("ready")
        program.send("hello\r")
        program.wait_for("x = 1")
        for key in ("\x0f", "\x1b", "\x12"):  # the models, and the sessions
            program.send(key)
            program.read(0.6)
        codes = [
            code
            for found in re.findall(rb"\x1b\[([0-9;]*)m", bytes(program.raw))
            for code in found.split(b";")
        ]
        assert b"1" in codes
        assert not [
            code for code in codes if len(code) > 1 and code[:1] in b"349" and code not in {b"39", b"49"}
        ]
