from __future__ import annotations

import time

import pytest

from engine import pending as pending_module
from engine.commands import AnyCommand, DryRun, MeasureLimits, PlanLoad, UnloadModel
from engine.errors import EngineDied
from engine.events import DryRunDone, Failed, LimitsMeasured, Planned, TextDelta, TurnFinished
from engine.pending import Pending
from engine.plan.limits import typical_limits
from engine.values import Blueprint, FinishReason, Placement
from tests.engine.listener import MODEL, ask, load


def _given(*commands: AnyCommand) -> Pending:
    pending = Pending()
    for command in commands:
        pending.add(command)
    pending.give()
    return pending


def _head_of(pending: Pending) -> int | None:
    return pending.head.turn_id if pending.head is not None else None


def test_commands_are_given_once_in_order() -> None:
    pending = Pending()
    pending.add(load(1))
    pending.add(ask(2))
    assert [command.turn_id for command in pending.give()] == [1, 2]
    assert pending.give() == []
    assert _head_of(pending) == 1


def test_an_answer_takes_its_command_off_the_list() -> None:
    pending = _given(PlanLoad(turn_id=1, model=MODEL), ask(2))
    pending.watch(TextDelta(turn_id=1, text="no answer"))
    assert _head_of(pending) == 1
    pending.watch(Planned(turn_id=1, model=MODEL, placement=Placement(context_window=8)))
    assert _head_of(pending) == 2
    pending.watch(Failed(turn_id=9, error="EngineFault", message="of no command"))
    assert _head_of(pending) == 2


def test_what_was_built_on_no_device_and_what_was_measured_are_answers() -> None:
    pending = _given(DryRun(turn_id=1, folder=MODEL.folder), MeasureLimits(turn_id=2), ask(3))
    blueprint = Blueprint(architecture="A", parameters=0, tensors=())
    pending.watch(DryRunDone(turn_id=1, folder=MODEL.folder, blueprint=blueprint))
    assert _head_of(pending) == 2
    pending.watch(LimitsMeasured(turn_id=2, limits=typical_limits()))
    assert _head_of(pending) == 3


def test_the_dead_leave_a_failed_turn_with_what_was_counted() -> None:
    pending = _given(ask(2), UnloadModel(turn_id=3))
    pending.watch(TextDelta(turn_id=2, text="a", completion_tokens=5))
    turn, unload = pending.withdraw_given(EngineDied("It died.", "Load again."))
    assert isinstance(turn, TurnFinished)
    assert (turn.turn_id, turn.finish_reason, turn.message) == (2, FinishReason.FAILED, "It died.")
    assert turn.usage.completion_tokens == 5
    assert unload == Failed(turn_id=3, error="EngineDied", message="It died.", hint="Load again.")
    assert pending.head is None


def test_what_was_cancelled_is_answered_and_the_rest_waits() -> None:
    pending = _given(load(1), ask(2), ask(3))
    pending.add(ask(4))
    pending.cancel(2)
    first, second = pending.withdraw_cancelled()
    assert isinstance(first, Failed)
    assert first.error == "LoadCancelled"
    assert isinstance(second, TurnFinished)
    assert second.finish_reason is FinishReason.CANCELLED
    assert [command.turn_id for command in pending.give()] == [3, 4]


def test_everything_can_be_withdrawn_given_or_not() -> None:
    pending = _given(ask(1))
    pending.add(ask(2))
    assert [event.turn_id for event in pending.withdraw_all(EngineDied("It died."))] == [1, 2]
    assert pending.give() == []


def test_nothing_is_overdue_that_was_not_cancelled() -> None:
    assert not _given(load(1)).is_overdue(is_silent=True)
    assert not Pending().is_overdue(is_silent=True)


@pytest.mark.parametrize(
    ("command", "limit"), [(load(5), "LOAD_STOP_SECONDS"), (ask(5), "TURN_STOP_SECONDS")]
)
def test_a_cancelled_command_is_overdue_after_its_limit(
    command: AnyCommand, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pending = _given(command)
    pending.cancel(5)
    assert not pending.is_overdue(is_silent=False)
    assert pending.is_overdue(is_silent=True)
    monkeypatch.setattr(time, "monotonic", _later(getattr(pending_module, limit) + 0.1))
    assert pending.is_overdue(is_silent=False)


def _later(seconds: float) -> object:
    moment = time.monotonic() + seconds
    return lambda: moment


def test_a_plan_has_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    pending = _given(PlanLoad(turn_id=5, model=MODEL))
    pending.cancel(5)
    monkeypatch.setattr(time, "monotonic", _later(3600))
    assert not pending.is_overdue(is_silent=False)


def test_a_cancel_is_never_taken_back() -> None:
    pending = _given(ask(5))
    pending.cancel(5)
    pending.cancel(3)
    assert pending.cancelled_through == 5


def test_a_dropped_command_is_forgotten() -> None:
    pending = _given(ask(1), ask(2))
    pending.drop(ask(1))
    assert _head_of(pending) == 2
