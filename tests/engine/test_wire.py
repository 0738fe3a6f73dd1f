from __future__ import annotations

import os
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.commands import (
    AnyCommand,
    DryRun,
    Inspect,
    LoadModel,
    MeasureLimits,
    PlanLoad,
    Shutdown,
    UnloadModel,
)
from engine.errors import WireError
from engine.events import (
    AnyEvent,
    ContextFull,
    DryRunDone,
    EngineEnded,
    EngineReady,
    EngineSilent,
    Failed,
    Heartbeat,
    Inspected,
    LimitsMeasured,
    LoadProgress,
    MemoryLedger,
    ModelLoaded,
    ModelUnloaded,
    Planned,
    PrefillProgress,
    TextDelta,
    TurnFinished,
    TurnStarted,
)
from engine.plan.limits import typical_limits
from engine.values import (
    ActivationPeak,
    Blueprint,
    BudgetRequest,
    BuiltTensor,
    CacheGrowth,
    DeviceLedger,
    FinishReason,
    LayerPlacement,
    LoadStage,
    ModelRef,
    Placement,
    SamplingParams,
    Tier,
)
from engine.wire import MAX_FRAME_BYTES, Cancel, ToEngine, command_decoder, encode, event_decoder
from tests.engine.listener import MODEL, ask

LAYER = LayerPlacement(name="model.layers.0", bytes=8, tier=Tier.DISK, device="disk")
PLACEMENT = Placement(context_window=64, layers=(LAYER,), offload_folder=Path("/offload"))
BLUEPRINT = Blueprint(
    architecture="A",
    parameters=12,
    tensors=(BuiltTensor(name="w", shape=(3, 4), itemsize=2, packs=True),),
    caches=(CacheGrowth(layer=0, bytes_per_token=4),),
    peaks=(ActivationPeak(chunk_tokens=1, context_tokens=2, bytes=3),),
)
COMMANDS: tuple[ToEngine, ...] = (
    Inspect(turn_id=1, folder=Path("/models/a b")),
    DryRun(turn_id=7, folder=Path("/models/a b")),
    MeasureLimits(turn_id=8),
    PlanLoad(turn_id=2, model=MODEL, budgets=BudgetRequest(gpu=((0, 5), (1, 7)), disk_folder=Path("/d"))),
    LoadModel(turn_id=3, model=MODEL, placement=PLACEMENT),
    ask(4, "日本語 🙂", max_new_tokens=7),
    UnloadModel(turn_id=5),
    Shutdown(),
    Cancel(turn_id=6),
)
EVENTS: tuple[AnyEvent, ...] = (
    EngineReady(seq=1, pid=7),
    Heartbeat(ram_bytes=2**40),
    Inspected(
        architecture="A", parameters=1, weight_bytes=2, context_window=3, dtype="bfloat16", warnings=("w",)
    ),
    DryRunDone(folder=Path("/models/a b"), blueprint=BLUEPRINT),
    LimitsMeasured(limits=typical_limits()),
    Planned(model=MODEL, placement=PLACEMENT),
    LoadProgress(stage=LoadStage.READ, seconds_left=0.5),
    ModelLoaded(
        model=MODEL,
        placement=PLACEMENT,
        architecture="A",
        parameters=1,
        dtype="float32",
        context_window=64,
        max_context_window=128,
        load_seconds=0.25,
        sampling=SamplingParams(stop=("a", "b")),
    ),
    ModelUnloaded(),
    TurnStarted(prompt_tokens=3),
    PrefillProgress(done_tokens=1, total_tokens=2),
    TextDelta(text="\x1b]0;x\x07 \0 é", reasoning=True),
    ContextFull(context_window=64),
    TurnFinished(finish_reason=FinishReason.FAILED, message="m", hint="h"),
    MemoryLedger(devices=(DeviceLedger(device="gpu:0", kv_bytes=3),)),
    Failed(error="OutOfMemory", message="m"),
    EngineEnded(message="m", exit_code=-9, out_of_memory=True),
    EngineSilent(seconds=5.5),
)


def test_the_samples_hold_every_kind_of_message() -> None:
    assert {type(command) for command in COMMANDS} == {*get_args(AnyCommand), Cancel}
    assert {type(event) for event in EVENTS} == set(get_args(AnyEvent))


@given(st.lists(st.sampled_from(COMMANDS), max_size=6), st.lists(st.integers(1, 40)))
def test_commands_arrive_whole_however_their_bytes_are_split(sent: list[ToEngine], cuts: list[int]) -> None:
    decoder = command_decoder()
    received = [message for piece in _split(sent, cuts) for message in decoder.feed(piece)]
    decoder.close()
    assert received == sent


@given(st.lists(st.sampled_from(EVENTS), max_size=6), st.lists(st.integers(1, 40)))
def test_events_arrive_whole_however_their_bytes_are_split(sent: list[AnyEvent], cuts: list[int]) -> None:
    decoder = event_decoder()
    received = [message for piece in _split(sent, cuts) for message in decoder.feed(piece)]
    decoder.close()
    assert received == sent


def _split(messages: list[ToEngine] | list[AnyEvent], cuts: list[int]) -> list[bytes]:
    data = b"".join(encode(message) for message in messages)
    pieces = []
    for cut in cuts:
        pieces.append(data[:cut])
        data = data[cut:]
    return [*pieces, data]


@given(st.text(alphabet=st.characters(exclude_categories=[])))
def test_any_text_crosses_the_wire_with_lone_surrogates_replaced(text: str) -> None:
    (event,) = event_decoder().feed(encode(TextDelta(text=text)))
    expected = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert isinstance(event, TextDelta)
    assert event.text == expected


@given(st.binary(min_size=1).filter(lambda name: b"\0" not in name and b"/" not in name))
def test_any_file_name_crosses_the_wire_unchanged(name: bytes) -> None:
    folder = Path(os.fsdecode(b"/models/" + name))
    command = LoadModel(model=ModelRef(name="a \ud800 name", folder=folder))
    (received,) = command_decoder().feed(encode(command))
    assert isinstance(received, LoadModel)
    assert received.model.folder == folder


@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_raise_wire_error_and_nothing_else(body: bytes) -> None:
    frame = len(body).to_bytes(4, "big") + body
    for decoder in (command_decoder(), event_decoder()):
        with pytest.raises(WireError):
            decoder.feed(frame)


def test_a_value_out_of_its_range_raises_wire_error() -> None:
    plain = msgspec.to_builtins(ask(1))
    plain["sampling"]["temperature"] = -1.0
    body = msgspec.msgpack.encode(plain)
    with pytest.raises(WireError, match="temperature"):
        command_decoder().feed(len(body).to_bytes(4, "big") + body)


def test_an_event_is_no_command() -> None:
    with pytest.raises(WireError):
        command_decoder().feed(encode(EngineReady(pid=1)))


def test_a_folder_that_is_no_bytes_raises_wire_error() -> None:
    body = msgspec.msgpack.encode({"type": "Inspect", "folder": "/text"})
    with pytest.raises(WireError, match="does not carry"):
        command_decoder().feed(len(body).to_bytes(4, "big") + body)


def test_a_value_of_a_foreign_type_is_not_sent() -> None:
    foreign = Inspect(folder=object())  # type: ignore[arg-type] # what the types forbid must not pass either
    with pytest.raises(TypeError, match="does not carry object"):
        encode(foreign)


def test_a_frame_that_announces_too_much_is_refused_before_it_is_read() -> None:
    with pytest.raises(WireError, match="announces"):
        command_decoder().feed((MAX_FRAME_BYTES + 1).to_bytes(4, "big"))


def test_a_message_that_is_too_long_is_not_sent() -> None:
    with pytest.raises(WireError, match="longer than the wire takes"):
        encode(ask(1, "x" * MAX_FRAME_BYTES))


def test_an_end_within_a_frame_is_reported() -> None:
    decoder = command_decoder()
    assert decoder.feed(encode(Shutdown())[:-1]) == []
    with pytest.raises(WireError, match="ended within a message"):
        decoder.close()
