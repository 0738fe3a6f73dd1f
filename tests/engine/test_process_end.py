"""How an engine process ends, and what it leaves behind."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from engine.commands import Shutdown, UnloadModel
from engine.events import (
    EngineEnded,
    EngineReady,
    Failed,
    ModelLoaded,
    ModelUnloaded,
    TextDelta,
    TurnFinished,
    TurnStarted,
)
from engine.process import EngineProcess
from engine.script import Fault, FaultKind, Load, Reply, Script
from engine.values import BudgetRequest, FinishReason
from engine.wire import MAX_FRAME_BYTES
from tests.engine.listener import PATIENCE_SECONDS, Listener, ask, load, write_script
from tests.engine.processes import (
    DEAF,
    LONG,
    ROOT,
    SHORT,
    SPIN,
    STOPPED,
    Starter,
    is_alive,
    let_it_get_stuck,
    pid_of,
)


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
    pid = pid_of(engine)
    engine.close()
    count = len(listener.events)
    assert not is_alive(pid)
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
    let_it_get_stuck()
    pid, closed_at = pid_of(engine), time.monotonic()
    engine.close()
    assert time.monotonic() - closed_at <= 4.0
    assert not is_alive(pid)
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
    pid = pid_of(engine)
    engine.submit(Shutdown())
    engine.submit(Shutdown())
    deadline = time.monotonic() + 10
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(pid)
    assert not listener.of(EngineEnded)


def test_signals_of_the_terminal_do_not_reach_the_engine(start: Starter, listener: Listener) -> None:
    engine = start(Script(replies=(SHORT,)))
    listener.wait_for(EngineReady)
    assert os.getsid(pid_of(engine)) != os.getsid(0)
    for number in (signal.SIGINT, signal.SIGHUP):
        os.kill(pid_of(engine), number)
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
    pairs = Path(f"/proc/{pid_of(engine)}/environ").read_bytes().split(b"\0")
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
            assert is_alive(pid)
            parent.kill()
            deadline = time.monotonic() + 5.0
            while is_alive(pid) and time.monotonic() < deadline:
                time.sleep(0.01)
            assert not is_alive(pid)


@contextlib.contextmanager
def _parent(backend: str, phase: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", _PARENT, backend, phase]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
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
    (small_cgroup / "cgroup.procs").write_text(str(pid_of(engine)))
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
        os.kill(pid_of(engine), signal.SIGKILL)
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
