"""What the chat is asked for, from arguments and settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import values
from tui import cli
from tui.options import ChatOptions
from tui.settings import BudgetSettings, Settings
from tui.verbs import chat
from tui.verbs.usage import WrongUsage

GIB = 2**30


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")


def options(*words: str, settings: Settings | None = None) -> ChatOptions:
    parsed = cli.parser_of(cli.CHAT, "vramble").parse_args(words)
    return chat.options_of(parsed, settings or Settings())


def test_nothing_asks_for_nothing() -> None:
    assert options() == ChatOptions()


def test_every_flag_arrives() -> None:
    load = "--gpu 1=2GiB --ram 3GiB --disk /scratch --context 4096 --quant nf4"
    words = f"tiny --session 7 {load} --plain --theme dusk"
    assert options(*words.split()) == ChatOptions(
        model="tiny",
        session="7",
        context_window=4096,
        quantization=values.Quantization.NF4,
        budgets=values.BudgetRequest(gpu=((1, 2 * GIB),), ram_bytes=3 * GIB, disk_folder=Path("/scratch")),
        plain=True,
        theme="dusk",
    )


def test_c_resumes_the_last_session() -> None:
    assert options("-c").resume_last


def test_settings_hold_where_no_flag_is_given() -> None:
    settings = Settings(
        context_window=2048,
        quantization=values.Quantization.INT8,
        budgets=BudgetSettings(ram="2GiB"),
    )
    found = options("--quant", "none", settings=settings)
    assert found.context_window == 2048
    assert found.quantization is values.Quantization.NONE
    assert found.budgets.ram_bytes == 2 * GIB


@pytest.mark.parametrize("term", ["dumb", ""])
def test_a_terminal_without_a_screen_gets_lines(term: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", term)
    assert options().plain


def test_a_session_is_a_number() -> None:
    with pytest.raises(WrongUsage, match="--session"):
        options("--session", "last")
