"""What comes back from the engine."""

from __future__ import annotations

from pathlib import Path

from engine.values import (
    Blueprint,
    DeviceLedger,
    FinishReason,
    LoadStage,
    MachineLimits,
    ModelRef,
    Placement,
    SamplingParams,
    TurnUsage,
    Value,
)


class Event(Value, frozen=True, kw_only=True, tag=True):
    """A fact from the engine.

    Attributes:
        seq: grows by one with every event of one engine, from 1; 0 before it is sent.
        turn_id: the command it answers; 0 for none.
    """

    seq: int = 0
    turn_id: int = 0


class EngineReady(Event, frozen=True, kw_only=True):
    """The engine accepts commands.

    Attributes:
        pid: its process.
    """

    pid: int


class Heartbeat(Event, frozen=True, kw_only=True):
    """The engine process is alive; sent once a second.

    Attributes:
        ram_bytes: its resident memory.
    """

    ram_bytes: int = 0


class Inspected(Event, frozen=True, kw_only=True):
    """What a model folder says.

    Attributes:
        architecture: the class named by config.json.
        parameters: distinct parameters, tied ones once.
        weight_bytes: as stored.
        context_window: the longest one the checkpoint was made for.
        dtype: as stored ("bfloat16").
        warnings: what the person should know before loading.
    """

    architecture: str
    parameters: int
    weight_bytes: int
    context_window: int
    dtype: str
    warnings: tuple[str, ...] = ()


class DryRunDone(Event, frozen=True, kw_only=True):
    """The answer to DryRun.

    Attributes:
        folder: of the model.
        blueprint: what it is made of.
    """

    folder: Path
    blueprint: Blueprint


class LimitsMeasured(Event, frozen=True, kw_only=True):
    """The answer to MeasureLimits.

    Attributes:
        limits: of this machine.
    """

    limits: MachineLimits


class Planned(Event, frozen=True, kw_only=True):
    """The answer to PlanLoad.

    Attributes:
        model: which model.
        placement: where its layers would go.
    """

    model: ModelRef
    placement: Placement


class LoadProgress(Event, frozen=True, kw_only=True):
    """How far a load is; may be dropped.

    Attributes:
        stage: what it is doing.
        done_bytes: of total_bytes.
        total_bytes: of this load's weights; 0 before they are known.
        seconds_left: None before it can be told.
    """

    stage: LoadStage
    done_bytes: int = 0
    total_bytes: int = 0
    seconds_left: float | None = None


class ModelLoaded(Event, frozen=True, kw_only=True):
    """A model can be talked to.

    Attributes:
        model: which model.
        placement: where its layers lie.
        architecture: the class that runs it.
        parameters: distinct parameters, tied ones once.
        dtype: the dtype it computes in ("bfloat16").
        context_window: tokens it may hold.
        max_context_window: tokens the checkpoint was made for.
        load_seconds: from the command to this event.
        sampling: what the checkpoint itself recommends, with every None filled.
        has_chat_template: False when a plain transcript format stands in.
        notes: sentences about fallbacks ("computing on the CPU: ...").
    """

    model: ModelRef
    placement: Placement
    architecture: str
    parameters: int
    dtype: str
    context_window: int
    max_context_window: int
    load_seconds: float
    sampling: SamplingParams
    has_chat_template: bool = True
    notes: tuple[str, ...] = ()


class ModelUnloaded(Event, frozen=True, kw_only=True):
    """No model is loaded and its memory is given back."""


class TurnStarted(Event, frozen=True, kw_only=True):
    """The conversation is rendered and prefill begins.

    Attributes:
        prompt_tokens: tokens of the rendered conversation.
        reused_tokens: of those, already in the KV cache.
        dropped_messages: how many no longer fit, counted from the oldest one after the system prompt.
        context_window: the limit.
    """

    prompt_tokens: int
    reused_tokens: int = 0
    dropped_messages: int = 0
    context_window: int = 0


class PrefillProgress(Event, frozen=True, kw_only=True):
    """How far the prompt is; may be dropped.

    Attributes:
        done_tokens: of total_tokens.
        total_tokens: tokens this turn has to compute.
    """

    done_tokens: int
    total_tokens: int


class TextDelta(Event, frozen=True, kw_only=True):
    """More of the reply; never dropped.

    Attributes:
        text: whole characters (hostile until made SafeText).
        reasoning: it is thinking text, not the answer.
        completion_tokens: tokens of the reply so far.
    """

    text: str
    reasoning: bool = False
    completion_tokens: int = 0


class ContextFull(Event, frozen=True, kw_only=True):
    """The reply met the end of the context window; TurnFinished(length) follows.

    Attributes:
        context_window: the limit in tokens.
    """

    context_window: int


class TurnFinished(Event, frozen=True, kw_only=True):
    """The reply ended.

    Attributes:
        finish_reason: why.
        usage: counts and speeds.
        message: for `failed`, what happened and why; empty otherwise.
        hint: for `failed`, the next step.
        error: for `failed`, the class in errors.py ("OutOfMemory").
    """

    finish_reason: FinishReason
    usage: TurnUsage = TurnUsage()
    message: str = ""
    hint: str = ""
    error: str = ""


class MemoryLedger(Event, frozen=True, kw_only=True):
    """What the engine holds on each device; may be dropped.

    Attributes:
        devices: one entry per device in use.
        context_used: tokens in the KV cache.
    """

    devices: tuple[DeviceLedger, ...]
    context_used: int = 0


class Failed(Event, frozen=True, kw_only=True):
    """A command that is not a turn failed.

    Attributes:
        error: the class in errors.py ("OutOfMemory").
        message: what happened and why.
        hint: the next step.
    """

    error: str
    message: str
    hint: str = ""


class EngineEnded(Event, frozen=True, kw_only=True):
    """The engine process ended without being asked; a new one is being started.

    Attributes:
        message: exit code, signal or OOM kill, named.
        hint: the next step.
        exit_code: of the process; negative is a signal.
        out_of_memory: the kernel's OOM killer did it, as far as can be told.
    """

    message: str
    hint: str = ""
    exit_code: int = 0
    out_of_memory: bool = False


class EngineSilent(Event, frozen=True, kw_only=True):
    """No heartbeat for some seconds.

    Attributes:
        seconds: since the last one; 0 when it beats again.
    """

    seconds: float


AnyEvent = (
    EngineReady
    | Heartbeat
    | Inspected
    | DryRunDone
    | LimitsMeasured
    | Planned
    | LoadProgress
    | ModelLoaded
    | ModelUnloaded
    | TurnStarted
    | PrefillProgress
    | TextDelta
    | ContextFull
    | TurnFinished
    | MemoryLedger
    | Failed
    | EngineEnded
    | EngineSilent
)
DROPPABLE = (Heartbeat, LoadProgress, PrefillProgress, MemoryLedger)
