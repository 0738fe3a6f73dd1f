from __future__ import annotations

import os
import random
import signal
import stat
import sys
import threading
import time
from pathlib import Path

import pytest

from engine import spawn, supervisor
from engine.commands import Inspect, UnloadModel
from engine.events import (
    EngineEnded,
    EngineReady,
    EngineSilent,
    Failed,
    Heartbeat,
    Inspected,
    LoadProgress,
    ModelLoaded,
    ModelUnloaded,
    TextDelta,
    TurnFinished,
)
from engine.script import Fault, FaultKind, Load, Reply, Script
from engine.spawn import SpawnOptions
from engine.values import FinishReason
from tests.engine.listener import Listener, ask, load
from tests.engine.processes import (
    DEAF,
    LONG,
    SEED,
    SHORT,
    SPIN,
    STOPPED,
    Starter,
    is_alive,
    let_it_get_stuck,
    pid_of,
)


def test_a_model_is_loaded_and_answers_from_another_process(start: Starter, listener: Listener) -> None:
    engine = start()
    engine.submit(Inspect(turn_id=1, folder=Path("/m")))
    engine.submit(load(2))
    engine.submit(ask(3, "日本語 🙂"))
    assert listener.wait_for(TurnFinished, 3).finish_reason is FinishReason.STOP
    assert listener.text(3) == "You said: 日本語 🙂"
    assert listener.of(Inspected, 1)
    assert listener.of(ModelLoaded, 2)
    assert listener.wait_for(EngineReady).pid == engine.pid != os.getpid()
    assert listener.wait_for(Heartbeat).ram_bytes > 2**20


def test_check_02_a_killed_engine_is_named_and_the_next_message_is_answered(
    start: Starter, listener: Listener
) -> None:
    dice = random.Random(SEED)
    engine = start(Script(replies=(LONG,)))
    for round_ in range(10):
        turn_id = 10 * round_ + 2
        engine.submit(load(turn_id - 1))
        engine.submit(ask(turn_id))
        listener.wait_for(TextDelta, turn_id, count=dice.randint(1, 4))
        killed_at = time.monotonic()
        os.kill(pid_of(engine), signal.SIGKILL)
        ended = listener.wait_for(EngineEnded, count=round_ + 1)
        assert time.monotonic() - killed_at <= 1.0
        assert "SIGKILL" in ended.message
        finished = listener.wait_for(TurnFinished, turn_id)
        assert (finished.finish_reason, finished.message) == (FinishReason.FAILED, ended.message)
        assert finished.usage.completion_tokens > 0
        assert LONG.text.startswith(listener.text(turn_id))
    engine.submit(load(200))
    engine.submit(ask(201, max_new_tokens=3))
    assert listener.wait_for(TurnFinished, 201).finish_reason is FinishReason.LENGTH
    assert [event.seq for event in listener.events] == list(range(1, len(listener.events) + 1))


def test_every_command_in_flight_is_answered_when_the_process_dies(
    start: Starter, listener: Listener
) -> None:
    fault = Fault(kind=FaultKind.EXIT, at=2, number=3)
    engine = start(Script(load=Load(fault=fault)))
    for command in (load(1), ask(2), load(3)):
        engine.submit(command)
    assert listener.wait_for(Failed, 1).error == "EngineDied"
    assert "exit code 3" in listener.wait_for(TurnFinished, 2).message
    assert "exit code 3" in listener.wait_for(Failed, 3).message
    assert listener.wait_for(EngineEnded).exit_code == 3


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS])
def test_a_crash_is_named_by_its_signal_and_traced_in_the_log(
    start: Starter, listener: Listener, tmp_path: Path, number: signal.Signals
) -> None:
    fault = Fault(kind=FaultKind.SIGNAL, number=number)
    engine = start(Script(replies=(Reply(fault=fault), SHORT)), log=tmp_path / "engine.log")
    engine.submit(load(1))
    engine.submit(ask(2))
    ended = listener.wait_for(EngineEnded)
    assert number.name in ended.message
    assert (ended.exit_code, ended.out_of_memory) == (-number, False)
    assert "script.py" in (tmp_path / "engine.log").read_text()


def test_check_23_junk_on_the_outputs_reaches_only_the_log(
    start: Starter, listener: Listener, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "state" / "engine.log"
    engine = start(Script(replies=(Reply(fault=Fault(kind=FaultKind.SPILL)),)), log=log)
    engine.submit(load(1))
    engine.submit(ask(2, "x"))
    assert listener.wait_for(TurnFinished, 2).finish_reason is FinishReason.STOP
    assert capfd.readouterr() == ("", "")
    assert log.stat().st_size > 2 * 10**6
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert stat.S_IMODE(log.parent.stat().st_mode) == 0o700


def test_check_23_a_log_that_grows_and_grows_stays_below_ten_megabytes(
    start: Starter, listener: Listener, tmp_path: Path
) -> None:
    log = tmp_path / "engine.log"
    engine = start(Script(replies=(Reply(fault=Fault(kind=FaultKind.SPILL)),)), log=log)
    engine.submit(load(1))
    for turn_id in range(2, 6):
        beats = len(listener.of(Heartbeat))
        engine.submit(ask(turn_id))
        listener.wait_for(TurnFinished, turn_id)
        if turn_id % 2:
            listener.wait_for(Heartbeat, count=beats + 2)
    assert log.with_name("engine.log.1").exists()
    assert sum(path.stat().st_size for path in tmp_path.glob("engine.log*")) <= 10 * 10**6


@pytest.mark.parametrize("fault", [DEAF, SPIN, STOPPED], ids=["deaf", "spinning", "stopped"])
def test_check_37_stop_kills_what_does_not_stop_and_the_next_turn_works(
    start: Starter, listener: Listener, fault: Fault
) -> None:
    reply = Reply(text="word " * 9, tokens_per_second=0.0, fault=fault)
    engine = start(Script(replies=(reply,), load=Load()))
    engine.submit(load(1))
    engine.submit(ask(2))
    listener.wait_for(TextDelta, 2)
    let_it_get_stuck()
    stuck, stopped_at = pid_of(engine), time.monotonic()
    engine.cancel(2)
    finished = listener.wait_for(TurnFinished, 2)
    assert time.monotonic() - stopped_at <= 4.0
    assert finished.finish_reason is FinishReason.CANCELLED
    assert "did not stop" in listener.wait_for(EngineEnded).message
    assert not is_alive(stuck)
    engine.submit(load(3))
    engine.submit(ask(4, max_new_tokens=2))
    assert listener.wait_for(TurnFinished, 4).finish_reason is FinishReason.LENGTH


def test_check_37_silence_is_told_and_so_is_its_end(start: Starter, listener: Listener) -> None:
    engine = start(Script(replies=(Reply(text="word " * 9, fault=STOPPED),)))
    engine.submit(load(1))
    engine.submit(ask(2))
    listener.wait_for(TextDelta, 2)
    silent = listener.wait_for(EngineSilent)
    assert 5.0 <= silent.seconds <= 8.0
    os.kill(pid_of(engine), signal.SIGCONT)
    assert listener.wait_for(EngineSilent, count=2).seconds == 0.0
    assert listener.wait_for(TurnFinished, 2).finish_reason is FinishReason.STOP
    assert listener.text(2) == "word " * 9


def test_check_37_stop_kills_a_silent_engine_without_waiting(
    start: Starter, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "SILENT_SECONDS", 2.0)
    engine = start(Script(replies=(Reply(text="word " * 9, fault=STOPPED),)))
    engine.submit(load(1))
    engine.submit(ask(2))
    listener.wait_for(TextDelta, 2)
    let_it_get_stuck()
    listener.wait_for(EngineSilent)
    stopped_at = time.monotonic()
    engine.cancel(2)
    listener.wait_for(TurnFinished, 2)
    assert time.monotonic() - stopped_at <= 1.5
    listener.wait_for(EngineEnded)
    assert listener.of(EngineSilent)[-1].seconds == 0.0


@pytest.mark.parametrize("fault", [DEAF, SPIN, None], ids=["deaf", "spinning", "willing"])
def test_a_load_stops_at_once_whatever_the_engine_does(
    start: Starter, listener: Listener, fault: Fault | None
) -> None:
    engine = start(Script(load=Load(seconds=60.0 if fault is None else 0.0, fault=fault), replies=(SHORT,)))
    engine.submit(load(1))
    listener.wait_for(LoadProgress, 1, count=1 if fault is None else 3)
    let_it_get_stuck()
    stopped_at = time.monotonic()
    engine.cancel(1)
    assert listener.wait_for(Failed, 1).error == "LoadCancelled"
    assert time.monotonic() - stopped_at <= 1.0
    assert not listener.of(EngineEnded)
    engine.submit(Inspect(turn_id=2, folder=Path("/m")))
    listener.wait_for(Inspected, 2)


def test_a_killed_load_says_that_the_model_before_it_is_gone_and_keeps_later_commands(
    start: Starter, listener: Listener
) -> None:
    engine = start(Script(load=Load(seconds=0.5), replies=(SHORT,)))
    for command in (load(1), load(2), Inspect(turn_id=3, folder=Path("/m"))):
        engine.submit(command)
    listener.wait_for(LoadProgress, 2)
    os.kill(pid_of(engine), signal.SIGSTOP)
    engine.cancel(2)
    assert listener.wait_for(Failed, 2).error == "LoadCancelled"
    assert listener.wait_for(ModelUnloaded).turn_id == 0
    listener.wait_for(Inspected, 3)


def test_unload_ends_the_process_and_a_new_one_takes_its_place(start: Starter, listener: Listener) -> None:
    engine = start(Script(replies=(LONG,)))
    engine.submit(load(1))
    engine.submit(ask(2))
    listener.wait_for(TextDelta, 2)
    old, asked_at = pid_of(engine), time.monotonic()
    engine.submit(UnloadModel(turn_id=3))
    listener.wait_for(ModelUnloaded, 3)
    assert time.monotonic() - asked_at <= 1.0
    assert not is_alive(old)
    assert listener.of(TurnFinished, 2)[0].finish_reason is FinishReason.CANCELLED
    listener.wait_for(EngineReady, count=2)
    assert engine.pid != old
    assert not listener.of(EngineEnded)
    engine.submit(ask(4))
    assert listener.wait_for(TurnFinished, 4).message == "No model is loaded."


def test_unloads_are_all_answered_and_commands_behind_them_reach_the_new_process(
    start: Starter, listener: Listener
) -> None:
    engine = start(Script(replies=(SHORT,)))
    commands = (
        UnloadModel(turn_id=1),
        load(2),
        UnloadModel(turn_id=3),
        UnloadModel(turn_id=4),
        load(5),
        ask(6),
    )
    for command in commands:
        engine.submit(command)
    assert listener.wait_for(TurnFinished, 6).finish_reason is FinishReason.STOP
    for turn_id in (1, 3, 4):
        assert len(listener.of(ModelUnloaded, turn_id)) == 1
    assert len(listener.of(ModelLoaded, 5)) == 1


def test_check_06_none_of_100_cancels_is_lost_on_the_way_to_the_process(
    start: Starter, listener: Listener
) -> None:
    dice = random.Random(SEED)
    engine = start(Script(replies=(LONG,)))
    engine.submit(load(1))
    listener.wait_for(ModelLoaded, 1)
    for turn_id in range(2, 102):
        cancel = threading.Timer(dice.uniform(0.0, 0.01), engine.cancel, [turn_id])
        cancel.start()
        time.sleep(dice.uniform(0.0, 0.01))
        engine.submit(ask(turn_id))
        assert listener.wait_for(TurnFinished, turn_id).finish_reason is FinishReason.CANCELLED
        cancel.join()
    assert not listener.of(EngineEnded)


def test_a_cancel_outlives_the_process_it_was_sent_to(start: Starter, listener: Listener) -> None:
    engine = start(Script(replies=(LONG,)))
    listener.wait_for(EngineReady)
    engine.cancel(5)
    os.kill(pid_of(engine), signal.SIGKILL)
    listener.wait_for(EngineReady, count=2)
    engine.submit(load(4))
    engine.submit(ask(5))
    assert listener.wait_for(TurnFinished, 5).finish_reason is FinishReason.CANCELLED


def test_a_process_that_keeps_dying_rests_until_the_next_command(start: Starter, listener: Listener) -> None:
    engine = start(Script(load=Load(fault=Fault(kind=FaultKind.EXIT, number=1))))
    for turn_id in (1, 2, 3):
        engine.submit(load(turn_id))
        listener.wait_for(Failed, turn_id)
        listener.wait_for(EngineEnded, count=turn_id)
    assert "rests" in listener.of(EngineEnded)[-1].hint
    time.sleep(0.8)
    assert engine.pid is None
    engine.submit(Inspect(turn_id=4, folder=Path("/m")))
    listener.wait_for(Inspected, 4)


def test_a_process_that_cannot_be_started_is_told_and_tried_again(
    start: Starter, listener: Listener, tmp_path: Path
) -> None:
    engine = start(cwd=tmp_path / "absent")
    ended = listener.wait_for(EngineEnded, count=3)
    assert "could not be started: No such file or directory" in ended.message
    (tmp_path / "absent").mkdir()
    engine.submit(Inspect(turn_id=1, folder=Path("/m")))
    listener.wait_for(Inspected, 1)


def test_commands_that_wait_for_a_process_that_rests_are_failed(
    start: Starter, listener: Listener, tmp_path: Path
) -> None:
    engine = start(cwd=tmp_path / "absent")
    engine.submit(ask(1))
    assert listener.wait_for(TurnFinished, 1).finish_reason is FinishReason.FAILED
    listener.wait_for(EngineEnded, count=3)
    engine.submit(UnloadModel(turn_id=2))
    listener.wait_for(ModelUnloaded, 2)


@pytest.mark.parametrize(
    ("deed", "words"),
    [
        ("os.write(wire, bytes([0, 0, 0, 1, 193]) * 2)", "is no message"),
        ("os.close(wire)", "ran on"),
    ],
    ids=["nonsense", "silence for ever"],
)
def test_a_process_that_breaks_the_wire_is_ended(
    start: Starter, listener: Listener, monkeypatch: pytest.MonkeyPatch, deed: str, words: str
) -> None:
    sane, started = spawn._arguments, []

    def arguments(options: SpawnOptions, wire: int) -> list[str]:
        started.append(wire)
        code = f"import os, time; wire = {wire}; {deed}; time.sleep(60)"
        return [sys.executable, "-c", code] if len(started) == 1 else sane(options, wire)

    monkeypatch.setattr(spawn, "_arguments", arguments)
    engine = start()
    assert words in listener.wait_for(EngineEnded).message
    engine.submit(Inspect(turn_id=1, folder=Path("/m")))
    listener.wait_for(Inspected, 1)
