"""The chat in every size of terminal."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.tui.chat_support import LONG, chat_pilot, chat_terminal, write_script

SIZES = [(1, 1), (20, 5), (40, 10), (80, 24), (200, 60), (500, 200)]
STREAM = {"text": LONG, "tokens_per_second": 200}


async def test_check_19_every_size_while_a_reply_streams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with chat_pilot(tmp_path, monkeypatch, replies=[STREAM]) as running:
        await running.until(lambda: running.is_idle, "the model")
        await running.type("speak")
        for width, height in SIZES:
            await running.pilot.resize_terminal(width, height)
            await running.pilot.pause(0.1)
            region = running.screen.prompt.region
            assert (width, height) == (1, 1) or (region.height > 0 and region.width > 8)
            assert region.bottom <= height or height == 1
        await running.pilot.resize_terminal(20, 5)
        await running.pilot.press("escape")
        await running.until(lambda: running.is_idle, "the stop")
        await running.pilot.press("h", "i")
        assert running.screen.prompt.text == "hi"
        assert running.screen.prompt.region.bottom <= 5


def test_check_19_two_hundred_resizes_while_a_reply_streams(tmp_path: Path) -> None:
    sizes = random.Random(19)
    write_script(tmp_path, replies=[STREAM])
    with chat_terminal(tmp_path) as program:
        program.wait_for("ready")
        program.send("speak\r")
        program.wait_for("word5")
        for _ in range(200):
            program.resize(sizes.randint(1, 220), sizes.randint(1, 70))
            program.read(0.05)
        program.resize(0, 0)
        program.read(0.2)
        program.resize(100, 30)
        program.read(0.5)
        program.send("\x1b")
        program.wait_for("stopped")
        program.wait_for("ready")
        program.send("typed\x11")
        assert program.wait(5) == 0


async def test_the_panel_folds_into_two_lines_below_100_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with chat_pilot(tmp_path, monkeypatch, size=(99, 30), replies=[STREAM]) as running:
        await running.until(lambda: running.is_idle, "the model")
        assert running.screen.memory.region.height == 2
        assert running.screen.transcript.region.width > 90
        assert "/ 8,192" in running.screen.status_line.status.figures()
        await running.pilot.resize_terminal(100, 30)
        await running.pilot.pause(0.1)
        assert running.screen.memory.region.height > 10
