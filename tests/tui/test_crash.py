"""An exception nobody expected is a sentence and a private report without values."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.tui.chat_support import chat_pilot
from tui import crash


def failing(secret: str) -> None:
    raise ValueError(secret)


def test_a_report_names_places_and_no_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VRAMBLE_HOME", str(tmp_path / "home"))
    with pytest.raises(ValueError, match="canary") as caught:
        failing("".join(["the can", "ary"]))
    sentence = crash.tell(caught.value)
    assert "ValueError" in sentence
    (report,) = (tmp_path / "home" / "state").glob("crash-*.txt")
    assert str(report) in sentence
    assert stat.S_IMODE(report.stat().st_mode) == 0o600
    text = report.read_text()
    assert "in failing" in text
    assert "canary" not in text


async def test_a_fault_of_the_screen_ends_it_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    farewells: list[str] = []
    with pytest.raises(ZeroDivisionError):
        await crash_one(tmp_path, monkeypatch, farewells)
    assert "ZeroDivisionError" in farewells[0]
    assert "what was said is saved" in farewells[0]


async def crash_one(folder: Path, monkeypatch: pytest.MonkeyPatch, farewells: list[str]) -> None:
    async with chat_pilot(folder, monkeypatch, replies=[{}]) as running:
        await running.until(lambda: running.is_idle, "the model")
        running.app.call_later(lambda: 1 // 0)
        await running.until(lambda: running.app.farewell, "the farewell", 5)
        farewells.append(running.app.farewell)
