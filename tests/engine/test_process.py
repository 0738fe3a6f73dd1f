from __future__ import annotations

import contextlib
import os
import random
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from engine import spawn, supervisor
from engine.commands import Inspect, Shutdown, UnloadModel
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
    TurnStarted,
)
from engine.process import EngineProcess
from engine.script import Fault, FaultKind, Load, Reply, Script
from engine.spawn import SpawnOptions
from engine.values import BudgetRequest, FinishReason
from engine.wire import MAX_FRAME_BYTES
from tests.engine.listener import PATIENCE_SECONDS, Listener, ask, load, write_script

SEED = 20261120
_ROOT = Path(__file__).parents[2]
LONG = Reply(text="word " * 20_000, tokens_per_second=200.0)
SHORT = Reply(text="short")
DEAF = Fault(kind=FaultKind.SLEEP, at=3)
SPIN = Fault(kind=FaultKind.SPIN, at=3)
STOPPED = Fault(kind=FaultKind.SIGNAL, at=3, number=signal.SIGSTOP)
Starter = Callable[..., EngineProcess]


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def start(tmp_path: Path, listener: Listener) -> Iterator[Starter]:
    engines: list[EngineProcess] = []

    def start_process(script: Script | None = None, **options: Path) -> EngineProcess:
        backend = write_script(tmp_path, script or Script())
        engines.append(EngineProcess(listener, backend=backend, **options))
        engines[-1].start()
        return engines[-1]

    yield start_process
    for engine in engines:
        engine.close()
    assert psutil.Process().children() == []


def _pid(engine: EngineProcess) -> int:
    assert engine.pid is not None
    return engine.pid


def _let_it_get_stuck() -> None:
    """The fault comes right after the text that was waited for; a fifth of a second is ages."""
    time.sleep(0.2)


def _is_alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


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
        os.kill(_pid(engine), signal.SIGKILL)
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
    _let_it_get_stuck()
    stuck, stopped_at = _pid(engine), time.monotonic()
    engine.cancel(2)
    finished = listener.wait_for(TurnFinished, 2)
    assert time.monotonic() - stopped_at <= 4.0
    assert finished.finish_reason is FinishReason.CANCELLED
    assert "did not stop" in listener.wait_for(EngineEnded).message
    assert not _is_alive(stuck)
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
    os.kill(_pid(engine), signal.SIGCONT)
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
    _let_it_get_stuck()
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
    _let_it_get_stuck()
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
    os.kill(_pid(engine), signal.SIGSTOP)
    engine.cancel(2)
    assert listener.wait_for(Failed, 2).error == "LoadCancelled"
    assert listener.wait_for(ModelUnloaded).turn_id == 0
    listener.wait_for(Inspected, 3)


def test_unload_ends_the_process_and_a_new_one_takes_its_place(start: Starter, listener: Listener) -> None:
    engine = start(Script(replies=(LONG,)))
    engine.submit(load(1))
    engine.submit(ask(2))
    listener.wait_for(TextDelta, 2)
    old, asked_at = _pid(engine), time.monotonic()
    engine.submit(UnloadModel(turn_id=3))
    listener.wait_for(ModelUnloaded, 3)
    assert time.monotonic() - asked_at <= 1.0
    assert not _is_alive(old)
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
    os.kill(_pid(engine), signal.SIGKILL)
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


def test_a_conversation_too_long_for_the_wire_is_a_failed_turn(start: Starter, listener: Listener) -> None:
    engine = start(Script(replies=(SHORT,)))
    engine.submit(load(1))
    engine.submit(ask(2, "x" * MAX_FRAME_BYTES))
    engine.submit(ask(3))
    assert "longer than the wire" in listener.wait_for(TurnFinished, 2).message
    assert listener.wait_for(TurnFinished, 3).finish_reason is FinishReason.STOP


def test_a_long_conversation_arrives_and_a_cancel_may_come_while_it_is_written(
    start: Starter, listener: Listener
) -> None:
    engine = start(Script(replies=(SHORT,)))
    engine.submit(load(1))
    listener.wait_for(ModelLoaded, 1)
    engine.submit(ask(2, "x" * 8_000_000))
    engine.submit(ask(3, "y" * 8_000_000))
    engine.cancel(2)
    assert listener.wait_for(TurnFinished, 2).finish_reason in {FinishReason.CANCELLED, FinishReason.LENGTH}
    assert listener.wait_for(TurnStarted, 3).prompt_tokens == 2_000_000


def test_close_stops_a_reply_keeps_its_text_and_sends_nothing_afterwards(
    start: Starter, listener: Listener
) -> None:
    engine = start(Script(replies=(LONG,)))
    engine.submit(load(1))
    engine.submit(ask(2))
    engine.submit(load(3))
    listener.wait_for(TextDelta, 2)
    pid = _pid(engine)
    engine.close()
    count = len(listener.events)
    assert not _is_alive(pid)
    assert listener.of(TurnFinished, 2)[0].finish_reason is FinishReason.CANCELLED
    assert listener.of(Failed, 3)[0].error == "LoadCancelled"
    engine.submit(ask(4))
    engine.close()
    time.sleep(0.1)
    assert len(listener.events) == count


@pytest.mark.parametrize("fault", [DEAF, SPIN, STOPPED], ids=["deaf", "spinning", "stopped"])
def test_close_ends_what_does_not_listen(start: Starter, listener: Listener, fault: Fault) -> None:
    engine = start(Script(replies=(Reply(text="word " * 9, tokens_per_second=0.0, fault=fault),)))
    engine.submit(load(1))
    engine.submit(ask(2))
    listener.wait_for(TextDelta, 2)
    _let_it_get_stuck()
    pid, closed_at = _pid(engine), time.monotonic()
    engine.close()
    assert time.monotonic() - closed_at <= 4.0
    assert not _is_alive(pid)
    assert listener.of(TurnFinished, 2)[0].finish_reason is FinishReason.CANCELLED


def test_close_does_not_wait_for_a_process_that_is_still_starting(start: Starter, listener: Listener) -> None:
    engine = start()
    engine.submit(load(1))
    engine.close()
    assert engine.pid is None
    assert not listener.of(EngineEnded)


def test_an_engine_process_that_was_never_started_can_be_closed(listener: Listener) -> None:
    engine = EngineProcess(listener)
    assert engine.pid is None
    engine.close()
    assert not listener.events


def test_shutdown_ends_the_process_as_close_does(start: Starter, listener: Listener) -> None:
    engine = start()
    listener.wait_for(EngineReady)
    pid = _pid(engine)
    engine.submit(Shutdown())
    engine.submit(Shutdown())
    deadline = time.monotonic() + 10
    while _is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _is_alive(pid)
    assert not listener.of(EngineEnded)


def test_signals_of_the_terminal_do_not_reach_the_engine(start: Starter, listener: Listener) -> None:
    engine = start(Script(replies=(SHORT,)))
    listener.wait_for(EngineReady)
    assert os.getsid(_pid(engine)) != os.getsid(0)
    for number in (signal.SIGINT, signal.SIGHUP):
        os.kill(_pid(engine), number)
    engine.submit(load(1))
    engine.submit(ask(2))
    assert listener.wait_for(TurnFinished, 2).finish_reason is FinishReason.STOP


def test_check_40_the_process_keeps_its_files_in_its_own_private_folder(
    start: Starter, listener: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile, cache = tmp_path / "shared", tmp_path / "cache"
    hostile.mkdir()
    monkeypatch.setenv("TMPDIR", str(hostile))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(hostile))
    engine = start(cache=cache)
    listener.wait_for(EngineReady)
    pairs = Path(f"/proc/{_pid(engine)}/environ").read_bytes().split(b"\0")
    assert b"TMPDIR=" + os.fsencode(hostile) in pairs
    assert {folder.name for folder in cache.iterdir()} >= {"tmp", "inductor", "triton"}
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in (cache, *cache.iterdir())} == {0o700}
    assert list(hostile.iterdir()) == []


_PARENT = """
import sys, time
from engine import EngineProcess
from engine.events import EngineReady, LoadProgress, TextDelta, TurnStarted
from tests.engine.listener import Listener, ask, load
listener = Listener()
engine = EngineProcess(listener, backend=sys.argv[1])
engine.start()
engine.submit(load(1))
engine.submit(ask(2))
listener.wait_for({"load": LoadProgress, "prefill": TurnStarted, "decode": TextDelta}[sys.argv[2]])
print(engine.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("phase", "script"),
    [
        ("load", Script(load=Load(fault=Fault(kind=FaultKind.SPIN, at=1)))),
        ("prefill", Script(replies=(Reply(delay_seconds=600.0),))),
        ("decode", Script(replies=(LONG,))),
    ],
)
def test_check_38_the_engine_dies_with_a_killed_parent(tmp_path: Path, phase: str, script: Script) -> None:
    backend = write_script(tmp_path, script)
    with contextlib.ExitStack() as stack:
        for parent in [stack.enter_context(_parent(backend, phase)) for _ in range(7)]:
            assert parent.stdout is not None
            pid = int(parent.stdout.readline())
            assert _is_alive(pid)
            parent.kill()
            deadline = time.monotonic() + 5.0
            while _is_alive(pid) and time.monotonic() < deadline:
                time.sleep(0.01)
            assert not _is_alive(pid)


@contextlib.contextmanager
def _parent(backend: str, phase: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", _PARENT, backend, phase]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=_ROOT) as parent:
        try:
            yield parent
        finally:
            parent.kill()


_CGROUPS = Path("/sys/fs/cgroup/memory")


@pytest.fixture
def small_cgroup(tmp_path: Path) -> Iterator[Path]:
    group = _CGROUPS / f"vramble-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup v1 to make a limit in: {error}")
    (group / "memory.limit_in_bytes").write_text(str(48 * 2**20))
    yield group
    group.rmdir()


def test_check_34_an_engine_killed_by_the_oom_killer_is_named_as_such(
    start: Starter, listener: Listener, small_cgroup: Path
) -> None:
    engine = start()
    listener.wait_for(EngineReady)
    (small_cgroup / "cgroup.procs").write_text(str(_pid(engine)))
    engine.submit(load(1))
    engine.submit(ask(2, "x" * 60_000_000))
    ended = listener.wait_for(EngineEnded)
    assert ended.out_of_memory
    assert "ran out of memory" in ended.message
    assert "ran out of memory" in listener.wait_for(TurnFinished, 2).message


@pytest.mark.parametrize("is_killed", [True, False])
def test_check_40_an_engine_that_was_killed_leaves_no_offload_files(
    start: Starter, listener: Listener, tmp_path: Path, is_killed: bool
) -> None:
    engine = start()
    command = msgspec.structs.replace(load(1), budgets=BudgetRequest(disk_folder=tmp_path / "offload"))
    engine.submit(command)
    listener.wait_for(ModelLoaded, 1)
    left = tmp_path / "offload" / f"vramble-offload-{engine.pid}-x"
    left.mkdir(parents=True)
    (left / "tensor.safetensors").write_bytes(b"x")
    if is_killed:
        os.kill(_pid(engine), signal.SIGKILL)
    else:
        engine.submit(UnloadModel(turn_id=2))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while left.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left.exists()


def test_check_40_a_starting_engine_removes_what_dead_ones_left(
    start: Starter, listener: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VRAMBLE_HOME", str(tmp_path))
    dead = tmp_path / "cache" / "offload" / "vramble-offload-999999999-x"
    dead.mkdir(parents=True)
    start()
    listener.wait_for(EngineReady)
    assert not dead.exists()


def test_a_model_that_is_unloaded_before_its_load_began_stays_unloaded(
    start: Starter, listener: Listener
) -> None:
    engine = start()
    engine.submit(load(1))
    engine.submit(ask(2))
    engine.submit(UnloadModel(turn_id=3))
    engine.submit(load(4))
    engine.submit(UnloadModel(turn_id=5))
    engine.submit(ask(6))
    listener.wait_for(ModelUnloaded, 5)
    assert listener.wait_for(TurnFinished, 6).error == "NoModelLoaded"
    unloaded = listener.wait_for(ModelUnloaded, 5).seq
    assert all(event.seq < unloaded for event in listener.of(ModelLoaded))
    assert len(listener.of(TurnFinished, 2)) == 1
    assert len(listener.of(Failed, 4)) + len(listener.of(ModelLoaded, 4)) == 1
