"""An engine process without a screen: it loads, answers, stops on Ctrl+C, and its end is named."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from engine import commands, errors, events, values
from tui.verbs.talk import Talk


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VRAMBLE_HOME", str(tmp_path / "home"))
    return tmp_path


def play(folder: Path, monkeypatch: pytest.MonkeyPatch, **script: object) -> None:
    file = folder / "script.json"
    file.write_text(json.dumps(script))
    monkeypatch.setenv("VRAMBLE_BACKEND", f"scripted:{file}")


def load_of(folder: Path) -> commands.LoadModel:
    return commands.LoadModel(model=values.ModelRef(name="tiny", folder=folder))


def question(text: str) -> commands.Generate:
    return commands.Generate(messages=(values.ChatMessage(role=values.Role.USER, content=text),))


def ignore(_event: events.AnyEvent) -> None:
    """See nothing."""


def test_it_answers_one_question_after_the_other(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play(home, monkeypatch, replies=[{"text": "one", "tokens_per_second": 0}, {"text": "two {prompt}"}])
    seen: list[events.AnyEvent] = []
    with Talk() as talk:
        assert talk.load(load_of(home), ignore).model.name == "tiny"
        talk.answer(question("a"), ignore)
        finished = talk.answer(question("b"), seen.append)
    assert "".join(event.text for event in seen if isinstance(event, events.TextDelta)) == "two b"
    assert finished.finish_reason is values.FinishReason.STOP


def test_ctrl_c_keeps_what_was_said(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play(home, monkeypatch, replies=[{"text": "word " * 2000, "tokens_per_second": 100}])
    said: list[str] = []

    def watch(event: events.AnyEvent) -> None:
        if isinstance(event, events.TextDelta):
            if not said:
                os.kill(os.getpid(), signal.SIGINT)
            said.append(event.text)

    with Talk() as talk:
        talk.load(load_of(home), ignore)
        finished = talk.answer(question("a"), watch)
    assert finished.finish_reason is values.FinishReason.CANCELLED
    assert "".join(said).startswith("word")


def test_ctrl_c_stops_a_load(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play(home, monkeypatch, load={"seconds": 60, "steps": 600})

    sent: list[int] = []

    def watch(event: events.AnyEvent) -> None:
        if isinstance(event, events.LoadProgress) and not sent:
            sent.append(event.seq)
            os.kill(os.getpid(), signal.SIGINT)

    with Talk() as talk, pytest.raises(errors.LoadCancelled):
        talk.load(load_of(home), watch)


def test_the_handler_of_ctrl_c_is_put_back(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play(home, monkeypatch)
    before = signal.getsignal(signal.SIGINT)
    with Talk():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before


def test_the_death_of_the_engine_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play(
        home,
        monkeypatch,
        replies=[{"text": "word " * 50, "fault": {"kind": "signal", "at": 3, "number": 11}}],
    )
    with Talk() as talk:
        talk.load(load_of(home), ignore)
        finished = talk.answer(question("a"), ignore)
    assert finished.finish_reason is values.FinishReason.FAILED
    assert "SIGSEGV" in finished.message


def test_a_load_that_fails_raises_the_engines_own_error(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play(home, monkeypatch, load={"fault": {"kind": "out_of_memory", "message": "no room"}})
    with Talk() as talk, pytest.raises(errors.OutOfMemory):
        talk.load(load_of(home), ignore)


def test_a_question_to_a_busy_engine_is_given_up_after_a_while(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(home, monkeypatch, load={"seconds": 60, "steps": 600})
    with Talk() as talk:

        def ask(event: events.AnyEvent) -> None:
            if isinstance(event, events.LoadProgress):
                talk.ask(commands.DryRun(folder=home), events.DryRunDone, 0.2)

        with pytest.raises(TimeoutError):
            talk.load(load_of(home), ask)


def test_a_question_that_the_engine_cannot_answer_raises_its_error(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(home, monkeypatch)
    with Talk() as talk, pytest.raises(errors.UnsupportedModel, match="scripted"):
        talk.ask(commands.MeasureLimits(), events.LimitsMeasured)


def test_ctrl_c_ends_a_question(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play(home, monkeypatch, load={"seconds": 60, "steps": 600})
    with Talk() as talk:

        def ask(event: events.AnyEvent) -> None:
            if isinstance(event, events.LoadProgress):
                os.kill(os.getpid(), signal.SIGINT)
                talk.ask(commands.DryRun(folder=home), events.DryRunDone)

        with pytest.raises(KeyboardInterrupt):
            talk.load(load_of(home), ask)
