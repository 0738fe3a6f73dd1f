from __future__ import annotations

import os
import random
import signal
import threading
from pathlib import Path

import psutil
import pytest

from engine.events import EngineEnded, EngineReady, Event, ModelLoaded, TextDelta, TurnFinished
from engine.process import EngineProcess
from engine.script import Reply, Script
from tests.engine.listener import Listener, ask, load, write_script

SEED = 20261120
pytestmark = [pytest.mark.stress, pytest.mark.timeout(3600)]
LONG = Script(replies=(Reply(text="word " * 5_000, tokens_per_second=500.0),))


def _open() -> tuple[int, int]:
    return psutil.Process().num_fds(), threading.active_count()


def test_starting_and_closing_300_times_leaves_nothing_behind(tmp_path: Path) -> None:
    dice = random.Random(SEED)
    backend = write_script(tmp_path, LONG)
    before = _open()
    for _ in range(300):
        listener = Listener()
        engine = EngineProcess(listener, backend=backend)
        engine.start()
        engine.submit(load(1))
        engine.submit(ask(2))
        kinds: list[type[Event]] = [EngineReady, ModelLoaded, TextDelta]
        kind = dice.choice(kinds)
        listener.wait_for(kind)
        engine.cancel(dice.choice([1, 2]))
        engine.close()
        assert len(listener.of(TurnFinished, 2)) == 1
    assert psutil.Process().children() == []
    assert _open() == before


def test_100_kills_are_all_named_and_the_next_message_is_answered(tmp_path: Path) -> None:
    dice = random.Random(SEED)
    listener = Listener()
    engine = EngineProcess(listener, backend=write_script(tmp_path, LONG))
    engine.start()
    for round_ in range(100):
        turn_id = 10 * round_ + 2
        engine.submit(load(turn_id - 1))
        engine.submit(ask(turn_id))
        listener.wait_for(TextDelta, turn_id, count=dice.randint(1, 6))
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGKILL)
        assert "SIGKILL" in listener.wait_for(EngineEnded, count=round_ + 1).message
        listener.wait_for(TurnFinished, turn_id)
    engine.close()
    assert [event.seq for event in listener.events] == list(range(1, len(listener.events) + 1))
