from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from engine.script import Script

ROOT = Path(__file__).parents[2]
HEAVY = (
    "torch",
    "transformers",
    "accelerate",
    "bitsandbytes",
    "modelscope",
    "modelscope_hub",
    "huggingface_hub",
    "tokenizers",
    "safetensors",
    "numpy",
)
LIGHT = ("engine", "engine.child", "engine.process", "sessions", "themes", "tui.cli", "tui.app")


@pytest.mark.parametrize("module", LIGHT)
def test_check_47_a_clean_interpreter_imports_nothing_heavy(module: str) -> None:
    code = f"import {module}, json, sys; print(json.dumps(sorted(sys.modules)))"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    imported = {name.partition(".")[0] for name in json.loads(result.stdout)}
    assert not imported & set(HEAVY)


@pytest.mark.parametrize("module", ["textual", "rich", "asyncio", "psutil", "multiprocessing"])
def test_the_engine_s_front_door_opens_without(module: str) -> None:
    code = f"import sys, engine, engine.process; print({module!r} in sys.modules)"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


_SCREEN = """
import os, sys
forks = []
def watch(event, arguments):
    if event in ("os.fork", "os.forkpty"):
        forks.append(event)
sys.addaudithook(watch)
from engine import EngineProcess
from engine.events import EngineReady, TurnFinished
from engine.commands import UnloadModel
from tests.engine.listener import Listener, ask, load
listener = Listener()
engine = EngineProcess(listener, backend=sys.argv[1])
engine.start()
for command in (load(1), ask(2)):
    engine.submit(command)
listener.wait_for(TurnFinished, 2)
engine.submit(UnloadModel(turn_id=3))
listener.wait_for(EngineReady, count=2)
engine.close()
heavy = {name.partition(".")[0] for name in sys.modules} & set(sys.argv[2:])
print(os.getpid(), forks, heavy)
"""


def _command(folder: Path) -> list[str]:
    script = folder / "script.json"
    script.write_bytes(msgspec.json.encode(Script()))
    return [sys.executable, "-c", _SCREEN, f"scripted:{script}", *HEAVY]


def test_check_47_the_process_around_the_engine_neither_forks_nor_imports_torch(tmp_path: Path) -> None:
    result = subprocess.run(_command(tmp_path), cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.split(maxsplit=1)[1].strip() == "[] set()"


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_check_47_every_process_that_is_started_executes_a_program(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    calls = "trace=fork,vfork,clone,clone3,execve"
    command = ["strace", "-f", "-qq", "-e", calls, "-o", str(trace), *_command(tmp_path)]
    subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    started, executed = _processes(trace.read_text())
    assert len(started) == 2
    assert started <= executed


def _processes(trace: str) -> tuple[set[str], set[str]]:
    """Ids of the processes, not threads, that were started, and of those that executed a program."""
    started: set[str] = set()
    executed: set[str] = set()
    is_thread: dict[str, bool] = {}
    for line in trace.splitlines():
        pid, call = line.split(maxsplit=1)
        if "execve(" in call:
            executed.add(pid)
        if re.match(r"(v?fork|clone3?)\(", call):
            is_thread[pid] = "CLONE_THREAD" in call
        ended = re.match(r"(?:<\.\.\. )?(?:v?fork|clone3?)\b.*= (\d+)$", call)
        if ended and not is_thread[pid]:
            started.add(ended[1])
    return started, executed
