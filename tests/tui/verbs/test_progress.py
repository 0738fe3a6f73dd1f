"""Progress is one line on a terminal, and nothing elsewhere."""

from __future__ import annotations

import io
import sys

import pytest

from engine import events, values
from tui.verbs.progress import ProgressLine

LOADING = events.LoadProgress(
    stage=values.LoadStage.READ, done_bytes=2**30, total_bytes=3 * 2**30, seconds_left=8.0
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def line_on(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> ProgressLine:
    monkeypatch.setattr(sys, "stderr", stream)
    return ProgressLine()


def test_a_load_is_told_in_bytes_and_seconds_left(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    line_on(terminal, monkeypatch).watch(LOADING)
    assert "reading · 1.0 / 3.0 GiB · 8.0 s left" in terminal.getvalue()


def test_text_clears_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    line = line_on(terminal, monkeypatch)
    line.watch(LOADING)
    line.watch(events.TextDelta(text="x"))
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_it_is_not_written_more_often_than_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    line = line_on(terminal, monkeypatch)
    for _ in range(1000):
        line.watch(LOADING)
    assert terminal.getvalue().count("reading") < 100


def test_a_pipe_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.StringIO()
    line = line_on(pipe, monkeypatch)
    line.watch(LOADING)
    line.clear()
    assert pipe.getvalue() == ""


def test_a_line_is_never_wider_than_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    line_on(terminal, monkeypatch).show("模型" * 100)
    shown = terminal.getvalue().rpartition("\x1b[K")[2]
    assert shown == "模型" * 19 + "…"
