"""What the bridge asks of the engine beside the talk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from engine.commands import AnyCommand, DryRun, Generate, LoadModel, MeasureLimits
from engine.events import (
    DryRunDone,
    EngineEnded,
    Failed,
    LimitsMeasured,
    MemoryLedger,
    ModelLoaded,
    ModelUnloaded,
    TurnFinished,
)
from engine.values import (
    Blueprint,
    ChatMessage,
    DeviceLedger,
    FinishReason,
    MachineLimits,
    ModelRef,
    Placement,
    Role,
    SamplingParams,
    TurnUsage,
)
from tests.tui.readings import GIB, gpu, ledger, ram, reading
from tui.bridge import Bridge
from tui.holdings import Holdings
from tui.options import ChatOptions
from tui.settings import Settings
from tui.widgets.plan_bar import Held

if TYPE_CHECKING:
    from engine import EngineProcess
    from engine.events import AnyEvent
    from sessions import Turn

MODEL = ModelRef(name="toy", folder=Path("/m/toy"))
BLUEPRINT = Blueprint(architecture="A", parameters=0, tensors=())
LIMITS = MachineLimits(
    ram_bandwidth=1.0,
    linear_bandwidth={},
    flops={},
    attention_bandwidth={},
    op_seconds=1.0,
    disk_bandwidth=1.0,
    mapped_bandwidth=1.0,
    cached_bandwidth=1.0,
    tensor_seconds=1.0,
    quantize_bandwidth={},
    ram_runtime_bytes=1,
)


class FakeEngine:
    """Remembers what it was told."""

    pid = 1

    def __init__(self) -> None:
        self.told: list[AnyCommand | int] = []

    def submit(self, command: AnyCommand) -> None:
        self.told.append(command)

    def cancel(self, turn_id: int) -> None:
        self.told.append(turn_id)


class Bridged(Bridge):
    """A bridge to an engine that does nothing."""

    def __init__(self) -> None:
        super().__init__(ChatOptions(), Settings())
        self.fake = FakeEngine()
        self._engine = cast("EngineProcess", self.fake)

    def hear(self, event: AnyEvent) -> None:
        self._take(event)

    def ask(self) -> None:
        message = ChatMessage(role=Role.USER, content="hello")
        self.generate(cast("Turn", None), (message,), SamplingParams())


def loaded(turn_id: int) -> ModelLoaded:
    return ModelLoaded(
        turn_id=turn_id,
        model=MODEL,
        placement=Placement(context_window=8),
        architecture="A",
        parameters=1,
        dtype="float32",
        context_window=8,
        max_context_window=8,
        load_seconds=1.0,
        sampling=SamplingParams(),
    )


def test_the_engine_is_idle_while_nobody_waits_for_it() -> None:
    assert not Bridge(ChatOptions(), Settings()).is_idle
    bridge = Bridged()
    idle = [bridge.is_idle]
    bridge.load(LoadModel(model=MODEL))
    idle.append(bridge.is_idle)
    bridge.hear(loaded(bridge.loading))
    idle.append(bridge.is_idle)
    bridge.ask()
    idle.append(bridge.is_idle)
    bridge.hear(TurnFinished(turn_id=bridge.answering, finish_reason=FinishReason.STOP))
    idle.append(bridge.is_idle)
    assert idle == [True, False, True, False, True]


@pytest.mark.parametrize("answer", ["done", "failed", "ended"])
def test_a_dry_run_is_asked_for_and_over_with_its_answer(answer: str) -> None:
    bridge = Bridged()
    number = bridge.dry_run(MODEL.folder)
    assert bridge.fake.told == [DryRun(turn_id=number, folder=MODEL.folder)]
    assert not bridge.is_idle
    match answer:
        case "done":
            bridge.hear(DryRunDone(turn_id=number, folder=MODEL.folder, blueprint=BLUEPRINT))
        case "failed":
            bridge.hear(Failed(turn_id=number, error="UnsupportedModel", message="No."))
        case _:
            bridge.hear(EngineEnded(message="It ended."))
    assert bridge.is_idle


def test_a_prompt_or_a_load_stops_a_measurement_and_nothing_else() -> None:
    for wish in (Bridged.ask, lambda bridge: bridge.load(LoadModel(model=MODEL))):
        bridge = Bridged()
        number = bridge.measure()
        wish(bridge)
        measure, cancelled, command = bridge.fake.told
        assert measure == MeasureLimits(turn_id=number)
        assert cancelled == number
        assert isinstance(command, Generate | LoadModel)
        assert command.turn_id > number
        bridge.hear(Failed(turn_id=number, error="LoadCancelled", message="It was stopped."))
        assert not bridge.is_idle
        assert bridge.looking == 0


def test_a_measurement_that_is_over_is_not_stopped() -> None:
    bridge = Bridged()
    bridge.hear(LimitsMeasured(turn_id=bridge.measure(), limits=LIMITS))
    bridge.ask()
    assert [type(each) for each in bridge.fake.told] == [MeasureLimits, Generate]


def test_what_was_measured_of_a_model_goes_with_it() -> None:
    bridge = Bridged()
    bridge.load(LoadModel(model=MODEL))
    bridge.hear(loaded(bridge.loading))
    bridge.hear(MemoryLedger(devices=(DeviceLedger(device="ram", weight_bytes=5),)))
    bridge.ask()
    usage = TurnUsage(decode_tps=9.0)
    bridge.hear(TurnFinished(turn_id=bridge.answering, finish_reason=FinishReason.STOP, usage=usage))
    assert bridge.usage == usage
    assert bridge.holdings.own[0].weight_bytes == 5
    bridge.hear(ModelUnloaded())
    assert bridge.holdings.own == ()
    bridge.load(LoadModel(model=MODEL))
    bridge.hear(loaded(bridge.loading))
    assert bridge.usage is None


def test_what_is_held_is_told_with_its_peak_since_the_load_began() -> None:
    holdings = Holdings()
    for own in (3.0, 9.0, 7.0):
        holdings.take_reading(reading(gpu(own=own), memory=ram()))
    assert holdings.held() == {"gpu:0": Held(7 * GIB, 9 * GIB), "ram": Held(9 * GIB, 9 * GIB)}
    holdings.begin()
    holdings.take_reading(reading(gpu(own=2.0)))
    assert holdings.held()["gpu:0"] == Held(2 * GIB, 2 * GIB)


def test_a_driver_that_tells_no_processes_apart_is_helped_by_the_ledger() -> None:
    holdings = Holdings()
    holdings.take_ledger(ledger(weights=12.0, kv=3.0))
    holdings.take_reading(reading(gpu(own=None), gpu(1, problem="n/a (lost)")))
    assert holdings.held()["gpu:0"] == Held(16 * GIB, 16 * GIB)
    assert "gpu:1" not in holdings.held()
