"""Engine processes for tests: what they are told to say, how they fail, and whether they live."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from engine.process import EngineProcess
from engine.script import Fault, FaultKind, Reply

SEED = 20261120
ROOT = Path(__file__).parents[2]
LONG = Reply(text="word " * 20_000, tokens_per_second=200.0)
SHORT = Reply(text="short")
DEAF = Fault(kind=FaultKind.SLEEP, at=3)
SPIN = Fault(kind=FaultKind.SPIN, at=3)
STOPPED = Fault(kind=FaultKind.SIGNAL, at=3, number=signal.SIGSTOP)
Starter = Callable[..., EngineProcess]


def pid_of(engine: EngineProcess) -> int:
    assert engine.pid is not None
    return engine.pid


def let_it_get_stuck() -> None:
    """The fault comes right after the text that was waited for; a fifth of a second is ages."""
    time.sleep(0.2)


def is_alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False
