from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from engine.commands import Inspect, PlanLoad
from engine.errors import InvalidValue, LoadCancelled, NoModelLoaded, OutOfMemory
from engine.events import (
    ContextFull,
    Event,
    LoadProgress,
    MemoryLedger,
    PrefillProgress,
    TextDelta,
    TurnFinished,
    TurnStarted,
)
from engine.script import Fault, FaultKind, Load, Reply, Script, read_script, strike
from engine.scripted import ScriptedBackend
from engine.values import FinishReason
from tests.engine.listener import MODEL, ask, load


def _ready(script: Script) -> ScriptedBackend:
    backend = ScriptedBackend(script)
    backend.load(load(1), lambda _: None, lambda: False)
    return backend


def _run(backend: ScriptedBackend, prompt: str = "hi", limit: int | None = None) -> list[Event]:
    return list(backend.generate(ask(2, prompt, limit), lambda: False))


def _finish(events: list[Event]) -> TurnFinished:
    last = events[-1]
    assert isinstance(last, TurnFinished)
    return last


def _deltas(events: list[Event]) -> list[TextDelta]:
    return [event for event in events if isinstance(event, TextDelta)]


def test_a_reply_echoes_the_prompt_in_tokens_of_four_characters() -> None:
    deltas = _deltas(
        _run(_ready(Script(replies=(Reply(text="<{prompt}>", tokens_per_second=0),))), "日本語?")
    )
    assert [delta.text for delta in deltas] == ["<日本語", "?>"]
    assert [delta.completion_tokens for delta in deltas] == [1, 2]


def test_reasoning_comes_before_the_answer() -> None:
    deltas = _deltas(_run(_ready(Script(replies=(Reply(text="yes", reasoning="well"),)))))
    assert [(delta.text, delta.reasoning) for delta in deltas] == [("well", True), ("yes", False)]


def test_replies_are_given_in_turn_and_then_again() -> None:
    backend = _ready(Script(replies=(Reply(text="a"), Reply(text="b"))))
    assert [_deltas(_run(backend))[0].text for _ in range(3)] == ["a", "b", "a"]


def test_a_turn_tells_what_the_screen_wants_to_know() -> None:
    backend = _ready(Script(load=Load(kv_bytes_per_token=10)))
    first, second = _run(backend, "abcdefgh"), _run(backend, "abcdefgh")
    assert [type(event) for event in first[:5]] == [TurnStarted] + [PrefillProgress] * 4
    assert first[0] == TurnStarted(prompt_tokens=2, context_window=8192)
    assert isinstance(second[0], TurnStarted)
    assert second[0].reused_tokens == 2
    ledger = first[-2]
    assert isinstance(ledger, MemoryLedger)
    assert ledger.devices[0].kv_bytes == 10 * ledger.context_used
    assert ledger.context_used == _finish(first).usage.context_used > 2


def test_ledgers_come_while_a_long_reply_is_written() -> None:
    events = _run(_ready(Script(replies=(Reply(text="word" * 7, tokens_per_second=10),))))
    assert len([event for event in events if isinstance(event, MemoryLedger)]) >= 2


def test_the_speed_is_kept() -> None:
    began = time.monotonic()
    events = _run(
        _ready(Script(replies=(Reply(text="word" * 11, tokens_per_second=100, delay_seconds=0.1),)))
    )
    assert time.monotonic() - began >= 0.2
    assert _finish(events).usage.time_to_first_token >= 0.1


def test_a_reply_ends_at_its_limit() -> None:
    events = _run(_ready(Script(replies=(Reply(text="word" * 11),))), limit=3)
    assert len(_deltas(events)) == 3
    assert _finish(events).finish_reason is FinishReason.LENGTH


def test_a_full_context_window_is_told() -> None:
    script = Script(replies=(Reply(text="word" * 11),), load=Load(context_window=5))
    events = _run(_ready(script), "abcdefgh")
    assert len(_deltas(events)) == 3
    assert ContextFull(context_window=5) in events
    assert _finish(events).finish_reason is FinishReason.LENGTH


@pytest.mark.parametrize("reply", [Reply(delay_seconds=60.0), Reply(text="word" * 9, tokens_per_second=0.01)])
def test_a_cancelled_reply_stops_in_prefill_and_in_decode(reply: Reply) -> None:
    stop_at = time.monotonic() + 0.1
    backend = _ready(Script(replies=(reply,)))
    events = list(backend.generate(ask(2), lambda: time.monotonic() > stop_at))
    assert _finish(events).finish_reason is FinishReason.CANCELLED


def test_a_cancelled_load_is_no_model() -> None:
    backend = ScriptedBackend(Script(load=Load(seconds=60.0)))
    with pytest.raises(LoadCancelled):
        backend.load(load(1), lambda _: None, lambda: True)
    with pytest.raises(NoModelLoaded):
        _run(backend)


def test_a_load_shows_its_stages_in_order() -> None:
    events: list[Event] = []
    loaded = ScriptedBackend(Script(load=Load(steps=8))).load(load(1), events.append, lambda: False)
    steps = [event for event in events if isinstance(event, LoadProgress)]
    assert [step.stage for step in steps[::2]] == ["import", "read", "place", "warm_up"]
    assert [step.done_bytes for step in steps] == sorted(step.done_bytes for step in steps)
    assert loaded.placement.layers
    assert loaded.context_window == loaded.placement.context_window == 8192


def test_a_plan_and_an_inspection_describe_the_scripted_model() -> None:
    backend = ScriptedBackend(Script(load=Load(weight_bytes=3200)))
    placement = backend.plan(PlanLoad(model=MODEL, context_window=99)).placement
    assert placement.context_window == 99
    assert sum(layer.bytes for layer in placement.layers) == 3200
    inspected = backend.inspect(Inspect(folder=Path("/models/some")))
    assert inspected.weight_bytes == 3200
    assert "some" in inspected.warnings[0]


def test_a_load_may_fail() -> None:
    fault = Fault(kind=FaultKind.OUT_OF_MEMORY, at=2)
    seen: list[Event] = []
    with pytest.raises(OutOfMemory):
        ScriptedBackend(Script(load=Load(fault=fault))).load(load(1), seen.append, lambda: False)
    assert len(seen) == 2


def test_a_script_comes_from_json(tmp_path: Path) -> None:
    path = tmp_path / "script.json"
    path.write_text('{"replies": [{"text": "hi", "fault": {"kind": "spin", "at": 3}}], "load": {"steps": 1}}')
    script = read_script(path)
    assert script.replies == (Reply(text="hi", fault=Fault(kind=FaultKind.SPIN, at=3)),)
    assert script.load.steps == 1
    assert _deltas(_run(_ready(Script(replies=(Reply(text="hi"),)))))[0].text == "hi"
    assert isinstance(ScriptedBackend.from_file(path), ScriptedBackend)


@pytest.mark.parametrize("text", ["", "{", '{"replys": []}', '{"replies": []}', '{"replies": [{"text": 3}]}'])
def test_what_is_no_script_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "script.json"
    path.write_text(text)
    with pytest.raises(InvalidValue, match=r"script\.json"):
        read_script(path)


def test_a_missing_script_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="absent"):
        read_script(tmp_path / "absent")


def test_a_spill_writes_a_megabyte_to_both_outputs(capfd: pytest.CaptureFixture[str]) -> None:
    strike(Fault(kind=FaultKind.SPILL))
    captured = capfd.readouterr()
    assert len(captured.out) > 10**6
    assert len(captured.err) > 10**6


def test_faults_that_end_or_stop_the_process_call_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, int]] = []
    monkeypatch.setattr(os, "_exit", lambda number: calls.append(("exit", number)))
    monkeypatch.setattr(signal, "raise_signal", lambda number: calls.append(("signal", number)))
    strike(Fault(kind=FaultKind.EXIT, number=3))
    strike(Fault(kind=FaultKind.SIGNAL, number=19))
    assert calls == [("exit", 3), ("signal", 19)]


def test_a_sleeping_fault_sleeps_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            raise InterruptedError

    monkeypatch.setattr(time, "sleep", nap)
    with pytest.raises(InterruptedError):
        strike(Fault(kind=FaultKind.SLEEP))
    assert len(naps) == 3
