"""What may be submitted to the engine."""

from __future__ import annotations

from pathlib import Path

from engine.values import (
    BudgetRequest,
    ChatMessage,
    CodeFile,
    ModelRef,
    Placement,
    Quantization,
    SamplingParams,
    Strategy,
    Value,
)


class Command(Value, frozen=True, kw_only=True, tag=True):
    """A wish to the engine; every one is answered by an event.

    `turn_id` numbers grow with every command of one client. `cancel(turn_id)` stops the
    command of that number and every earlier one.
    """

    turn_id: int = 0


class Inspect(Command, frozen=True, kw_only=True):
    """Look at a model folder without loading it; answered by Inspected.

    Attributes:
        folder: the model's folder.
    """

    folder: Path


class DryRun(Command, frozen=True, kw_only=True):
    """Build a model on no device and follow a forward of it; answered by DryRunDone.

    Attributes:
        folder: the model's folder; config.json alone is enough.
    """

    folder: Path


class MeasureLimits(Command, frozen=True, kw_only=True):
    """Measure what this machine can do, some seconds long; answered by LimitsMeasured."""


class PlanLoad(Command, frozen=True, kw_only=True):
    """Place a model's layers against the budgets; answered by Planned.

    Attributes:
        model: which model.
        context_window: tokens; None takes the engine's default for the checkpoint.
        quantization: how linear weights are to be stored.
        budgets: what the person allows.
        strategy: how to choose among the ways that fit.
        device_map: (module, device) pairs of the `custom` strategy, as the person wrote them.
    """

    model: ModelRef
    context_window: int | None = None
    quantization: Quantization = Quantization.NONE
    budgets: BudgetRequest = BudgetRequest()
    strategy: Strategy = Strategy.AUTO
    device_map: tuple[tuple[str, str], ...] = ()


class LoadModel(Command, frozen=True, kw_only=True):
    """Load a model; answered by LoadProgress and then ModelLoaded or Failed.

    Attributes:
        model: which model.
        placement: where its layers go; None plans first, with the fields below.
        context_window: tokens; None takes the engine's default for the checkpoint.
        quantization: how linear weights are to be stored.
        budgets: what the person allows.
        strategy: how to choose among the ways that fit.
        device_map: (module, device) pairs of the `custom` strategy, as the person wrote them.
        trusted: every file of the repository's own code that the person agreed to run; no other runs.
    """

    model: ModelRef
    placement: Placement | None = None
    context_window: int | None = None
    quantization: Quantization = Quantization.NONE
    budgets: BudgetRequest = BudgetRequest()
    strategy: Strategy = Strategy.AUTO
    device_map: tuple[tuple[str, str], ...] = ()
    trusted: tuple[CodeFile, ...] = ()


class Generate(Command, frozen=True, kw_only=True):
    """Answer a conversation; answered by TurnStarted, TextDelta and then TurnFinished.

    Attributes:
        messages: the conversation, oldest first, the last one by the user, or by the
            assistant when `continue_reply` asks for more of it.
        sampling: how tokens are chosen.
        continue_reply: go on with the last message, which is an unfinished reply.
    """

    messages: tuple[ChatMessage, ...]
    sampling: SamplingParams = SamplingParams()
    continue_reply: bool = False


class UnloadModel(Command, frozen=True, kw_only=True):
    """Give the model's memory back; answered by ModelUnloaded."""


class Shutdown(Command, frozen=True, kw_only=True):
    """End the engine after what is running has been cancelled."""


AnyCommand = Inspect | DryRun | MeasureLimits | PlanLoad | LoadModel | Generate | UnloadModel | Shutdown
