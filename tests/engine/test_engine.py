from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.backend import Backend, Cancelled, Emit
from engine.commands import Generate, Inspect, LoadModel, PlanLoad, Shutdown, UnloadModel
from engine.engine import Engine
from engine.errors import DamagedCheckpoint
from engine.events import (
    EngineReady,
    Event,
    Failed,
    Inspected,
    LoadProgress,
    MemoryLedger,
    ModelLoaded,
    ModelUnloaded,
    Planned,
    TextDelta,
    TurnFinished,
    TurnStarted,
)
from engine.script import Fault, FaultKind, Load, Reply, Script
from engine.scripted import ScriptedBackend
from engine.values import FinishReason
from tests.engine.listener import MODEL, Listener, ask, load

SEED = 20261120
LONG = Reply(text="word " * 20_000, tokens_per_second=500.0)
Starter = Callable[..., Engine]


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def start(listener: Listener) -> Iterator[Starter]:
    engines: list[Engine] = []

    def start_engine(backend: Backend | None = None, script: Script | None = None) -> Engine:
        engines.append(Engine(lambda: backend or ScriptedBackend(script or Script()), listener))
        engines[-1].start()
        return engines[-1]

    yield start_engine
    for engine in engines:
        engine.close()


def test_commands_are_answered_in_order_and_events_are_numbered_from_one(
    start: Starter, listener: Listener
) -> None:
    engine = start()
    engine.submit(Inspect(turn_id=1, folder=Path("/m")))
    engine.submit(PlanLoad(turn_id=2, model=MODEL))
    engine.submit(load(3))
    engine.submit(ask(4, "ping"))
    engine.submit(UnloadModel(turn_id=5))
    listener.wait_for(ModelUnloaded, 5)
    assert [event.seq for event in listener.events] == list(range(1, len(listener.events) + 1))
    assert [event.turn_id for event in listener.events] == sorted(event.turn_id for event in listener.events)
    kinds = {event.turn_id: type(event) for event in listener.events}
    assert list(kinds.values()) == [EngineReady, Inspected, Planned, ModelLoaded, TurnFinished, ModelUnloaded]
    assert listener.text(4) == "You said: ping"


def test_progress_and_ledgers_belong_to_the_command_that_runs(start: Starter, listener: Listener) -> None:
    start().submit(load(7))
    listener.wait_for(ModelLoaded, 7)
    assert len(listener.of(LoadProgress, 7)) == 4
    assert len(listener.of(MemoryLedger, 7)) == 1


def test_generating_without_a_model_is_a_failed_turn_with_a_hint(start: Starter, listener: Listener) -> None:
    start().submit(ask(1))
    finished = listener.wait_for(TurnFinished, 1)
    assert finished.finish_reason is FinishReason.FAILED
    assert finished.message == "No model is loaded."
    assert finished.hint


def test_generating_after_an_unload_is_a_failed_turn(start: Starter, listener: Listener) -> None:
    engine = start()
    for command in (load(1), UnloadModel(turn_id=2), ask(3)):
        engine.submit(command)
    assert listener.wait_for(TurnFinished, 3).message == "No model is loaded."


def test_a_cancelled_turn_stops_and_the_next_one_is_answered(start: Starter, listener: Listener) -> None:
    engine = start(script=Script(replies=(LONG, Reply(text="short"))))
    engine.submit(load(1))
    engine.submit(ask(2))
    listener.wait_for(TextDelta, 2)
    engine.cancel(2)
    finished = listener.wait_for(TurnFinished, 2)
    assert finished.finish_reason is FinishReason.CANCELLED
    assert 0 < len(listener.text(2)) < len(LONG.text)
    engine.submit(ask(3))
    assert listener.wait_for(TurnFinished, 3).finish_reason is FinishReason.STOP
    assert listener.text(3) == "short"


def test_check_06_none_of_300_cancels_is_lost(start: Starter, listener: Listener) -> None:
    dice = random.Random(SEED)
    engine = start(script=Script(replies=(LONG,)))
    engine.submit(load(1))
    listener.wait_for(ModelLoaded, 1)
    for turn_id in range(2, 302):
        cancel = threading.Timer(dice.uniform(0.0, 0.004), engine.cancel, [turn_id])
        cancel.start()
        time.sleep(dice.uniform(0.0, 0.004))
        engine.submit(ask(turn_id))
        assert listener.wait_for(TurnFinished, turn_id).finish_reason is FinishReason.CANCELLED
        cancel.join()


def test_cancel_stops_every_earlier_command_and_none_that_is_later(
    start: Starter, listener: Listener
) -> None:
    engine = start(script=Script(replies=(LONG, Reply(text="later"))))
    engine.submit(load(1))
    for turn_id in (2, 3, 4, 5):
        engine.submit(ask(turn_id))
    listener.wait_for(TextDelta, 2)
    engine.cancel(4)
    engine.cancel(3)
    reasons = [listener.wait_for(TurnFinished, turn_id).finish_reason for turn_id in (2, 3, 4, 5)]
    assert reasons == [FinishReason.CANCELLED] * 3 + [FinishReason.STOP]
    assert [listener.text(turn_id) for turn_id in (3, 4, 5)] == ["", "", "later"]


def test_a_cancelled_load_says_so_and_leaves_no_model(start: Starter, listener: Listener) -> None:
    engine = start(script=Script(load=Load(seconds=60.0)))
    engine.submit(load(1))
    listener.wait_for(LoadProgress, 1)
    engine.cancel(1)
    assert listener.wait_for(Failed, 1).error == "LoadCancelled"
    engine.submit(ask(2))
    assert listener.wait_for(TurnFinished, 2).message == "No model is loaded."


def test_a_load_cancelled_before_it_began_is_not_begun(start: Starter, listener: Listener) -> None:
    engine = start()
    engine.cancel(1)
    engine.submit(load(1))
    assert listener.wait_for(Failed, 1).error == "LoadCancelled"
    assert not listener.of(LoadProgress)


class DeafBackend(ScriptedBackend):
    """Finishes a load whatever it is told, once `release` is set."""

    def __init__(self) -> None:
        super().__init__(Script())
        self.began, self.release = threading.Event(), threading.Event()

    def load(self, command: LoadModel, emit: Emit, cancelled: Cancelled) -> ModelLoaded:
        self.began.set()
        self.release.wait()
        return super().load(command, emit, lambda: False)


def test_a_load_that_finishes_in_spite_of_its_cancel_is_undone(start: Starter, listener: Listener) -> None:
    backend = DeafBackend()
    engine = start(backend)
    engine.submit(load(1))
    backend.began.wait()
    engine.cancel(1)
    backend.release.set()
    assert listener.wait_for(Failed, 1).error == "LoadCancelled"
    assert not listener.of(ModelLoaded)


@pytest.mark.parametrize("at", [0, 1, 5])
def test_check_33_out_of_memory_keeps_what_was_said_and_the_next_turn_works(
    start: Starter, listener: Listener, at: int
) -> None:
    fault = Fault(kind=FaultKind.OUT_OF_MEMORY, at=at, message="The KV cache does not fit.")
    replies = (Reply(text="word " * 9, tokens_per_second=0.0, fault=fault), Reply(text="fine"))
    engine = start(script=Script(replies=replies))
    for command in (load(1), ask(2), ask(3)):
        engine.submit(command)
    failed = listener.wait_for(TurnFinished, 2)
    assert (failed.finish_reason, failed.message) == (FinishReason.FAILED, "The KV cache does not fit.")
    assert failed.hint
    assert failed.usage.completion_tokens == at
    assert failed.usage.prompt_tokens > 0
    assert listener.text(2) == ("word " * 9)[: 4 * at]
    assert listener.wait_for(TurnFinished, 3).finish_reason is FinishReason.STOP


def test_an_unknown_exception_is_shown_in_a_sentence_and_its_text_is_not_logged(
    start: Starter, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    fault = Fault(kind=FaultKind.RAISE, at=2, message="canary prompt\nsecond line")
    engine = start(script=Script(replies=(Reply(fault=fault),)))
    with caplog.at_level(logging.ERROR):
        for command in (load(1), ask(2)):
            engine.submit(command)
        finished = listener.wait_for(TurnFinished, 2)
    assert finished.message == "The engine met RuntimeError: canary prompt"
    assert "RuntimeError" in caplog.text
    assert "script.py" in caplog.text
    assert "canary" not in caplog.text


class FaultyBackend(ScriptedBackend):
    """Breaks its contract in the ways a backend can."""

    def __init__(self, *, raises: Exception | None = None, events: tuple[Event, ...] = ()) -> None:
        super().__init__(Script())
        self._raises = raises
        self._events = events
        self.fails_to_load = False

    def load(self, command: LoadModel, emit: Emit, cancelled: Cancelled) -> ModelLoaded:
        if self.fails_to_load:
            self.unload()
            raise DamagedCheckpoint("A tensor is missing.", "Download it again.")
        return super().load(command, emit, cancelled)

    def inspect(self, command: Inspect) -> Inspected:
        if self._raises is not None:
            raise self._raises
        return super().inspect(command)

    def generate(self, command: Generate, cancelled: Cancelled) -> Iterator[Event]:
        yield from self._events
        if self._raises is not None:
            raise self._raises


def test_python_running_out_of_ram_is_named(start: Starter, listener: Listener) -> None:
    start(FaultyBackend(raises=MemoryError())).submit(Inspect(turn_id=1, folder=Path("/m")))
    assert listener.wait_for(Failed, 1).error == "OutOfMemory"


def test_a_reply_that_breaks_off_without_a_word_is_a_failed_turn(start: Starter, listener: Listener) -> None:
    engine = start(FaultyBackend(events=(TurnStarted(prompt_tokens=3), TextDelta(text="a"))))
    engine.submit(load(1))
    engine.submit(ask(2))
    finished = listener.wait_for(TurnFinished, 2)
    assert "broke off" in finished.message
    assert finished.usage.prompt_tokens == 3


def test_a_turn_is_finished_once_even_when_something_fails_afterwards(
    start: Starter, listener: Listener
) -> None:
    finished = TurnFinished(finish_reason=FinishReason.STOP)
    engine = start(FaultyBackend(events=(finished,), raises=RuntimeError("late")))
    for command in (load(1), ask(2), UnloadModel(turn_id=3)):
        engine.submit(command)
    listener.wait_for(ModelUnloaded, 3)
    assert [event.finish_reason for event in listener.of(TurnFinished, 2)] == [FinishReason.STOP]


def test_a_load_that_fails_says_that_the_model_before_is_gone(start: Starter, listener: Listener) -> None:
    backend = FaultyBackend()
    engine = start(backend)
    engine.submit(load(1))
    listener.wait_for(ModelLoaded, 1)
    backend.fails_to_load = True
    engine.submit(load(2))
    failed = listener.wait_for(Failed, 2)
    (gone,) = listener.of(ModelUnloaded, 0)
    assert gone.seq < failed.seq
    engine.submit(load(3))
    engine.submit(ask(4))
    assert listener.wait_for(TurnFinished, 4).error == "NoModelLoaded"
    assert len(listener.of(ModelUnloaded)) == 1


def test_a_backend_that_cannot_be_made_fails_each_command_with_the_reason(listener: Listener) -> None:
    def make() -> Backend:
        raise ImportError("no torch here")

    engine = Engine(make, listener)
    engine.start()
    engine.submit(load(1))
    engine.submit(Inspect(turn_id=2, folder=Path("/m")))
    listener.wait_for(EngineReady)
    assert "no torch here" in listener.wait_for(Failed, 1).message
    assert "no torch here" in listener.wait_for(Failed, 2).message
    engine.close()


def test_the_backend_is_made_on_the_thread_that_uses_it(listener: Listener) -> None:
    threads: list[str] = []

    def make() -> Backend:
        threads.append(threading.current_thread().name)
        return ScriptedBackend(Script())

    engine = Engine(make, listener)
    engine.start()
    listener.wait_for(EngineReady)
    engine.close()
    assert threads == ["engine"]


def test_close_stops_what_runs_joins_and_is_followed_by_no_event(listener: Listener) -> None:
    engine = Engine(lambda: ScriptedBackend(Script(replies=(LONG,))), listener)
    engine.start()
    engine.submit(load(1))
    engine.submit(ask(2))
    engine.submit(ask(3))
    listener.wait_for(TextDelta, 2)
    engine.close()
    count = len(listener.events)
    assert [event.finish_reason for event in listener.of(TurnFinished)] == [FinishReason.CANCELLED] * 2
    assert "engine" not in {thread.name for thread in threading.enumerate()}
    engine.submit(ask(4))
    engine.cancel(4)
    engine.close()
    assert len(listener.events) == count


def test_an_engine_that_was_never_started_can_be_closed(listener: Listener) -> None:
    Engine(lambda: ScriptedBackend(Script()), listener).close()
    assert not listener.events


def test_shutdown_ends_the_thread_after_cancelling_what_runs(start: Starter, listener: Listener) -> None:
    engine = start(script=Script(replies=(LONG,)))
    engine.submit(load(1))
    engine.submit(ask(2))
    engine.submit(Shutdown())
    assert listener.wait_for(TurnFinished, 2).finish_reason is FinishReason.CANCELLED
