"""A backend that says what a script tells it to: for tests, screenshots and measurements of the screen."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

from engine.backend import Cancelled, Emit
from engine.commands import DryRun, Generate, Inspect, LoadModel, PlanLoad
from engine.errors import LoadCancelled, NeedsConsent, NoModelLoaded, UnsupportedModel
from engine.events import (
    ContextFull,
    DryRunDone,
    Event,
    Inspected,
    LimitsMeasured,
    LoadProgress,
    MemoryLedger,
    ModelLoaded,
    Planned,
    PrefillProgress,
    TextDelta,
    TurnFinished,
    TurnStarted,
)
from engine.meter import TurnMeter
from engine.script import Fault, Load, Reply, Script, read_script, strike
from engine.values import (
    DeviceLedger,
    DevicePlan,
    FinishReason,
    Fits,
    LayerPlacement,
    LoadStage,
    Placement,
    Role,
    SamplingParams,
    Tier,
)

CHARACTERS_PER_TOKEN = 4
_SECONDS_BETWEEN_LEDGERS = 0.5
_SECONDS_BETWEEN_LOOKS = 0.01
_PREFILL_CHUNKS = 4
_OTHER_BYTES = 300 * 2**20
_BYTES_PER_PARAMETER = 2
_STAGES = (LoadStage.IMPORT, LoadStage.READ, LoadStage.PLACE, LoadStage.WARM_UP)
_SAMPLING = SamplingParams(
    temperature=0.7, top_p=0.95, top_k=50, min_p=0.0, repetition_penalty=1.0, max_new_tokens=4096, seed=0
)


class ScriptedBackend:
    """Keeps to a Script; a token is four characters."""

    def __init__(self, script: Script) -> None:
        """Begin with the script's first reply."""
        self._script = script.load
        self._replies = itertools.cycle(script.replies)
        self._context_window = 0
        self._context_used = 0

    @classmethod
    def from_file(cls, path: Path) -> ScriptedBackend:
        """Keep to the script in a JSON file. Raises InvalidValue when it is none."""
        return cls(read_script(path))

    def inspect(self, command: Inspect) -> Inspected:
        """Describe the scripted model; the folder is not read."""
        return Inspected(
            architecture=self._script.architecture,
            parameters=self._script.weight_bytes // _BYTES_PER_PARAMETER,
            weight_bytes=self._script.weight_bytes,
            context_window=self._script.context_window,
            dtype="bfloat16",
            warnings=(f"{command.folder.name} was not read: this engine is scripted.",),
        )

    def dry_run(self, command: DryRun) -> DryRunDone:
        """Raise UnsupportedModel: a script has no structure."""
        raise UnsupportedModel(f"{command.folder.name} was not built: this engine is scripted.")

    def measure_limits(self, cancelled: Cancelled) -> LimitsMeasured:  # noqa: ARG002 - it is over at once
        """Raise UnsupportedModel: a script is as fast as it says."""
        raise UnsupportedModel("Nothing was measured: this engine is scripted.")

    def plan(self, command: PlanLoad) -> Planned:
        """Everything in RAM."""
        return Planned(model=command.model, placement=_placement(self._script, command))

    def load(self, command: LoadModel, emit: Emit, cancelled: Cancelled) -> ModelLoaded:
        """Report the scripted steps, then a model."""
        if self._script.needs_consent and not command.trusted:
            raise NeedsConsent("It would have to run its own code.", "Look at it first.")
        self.unload()
        began = time.monotonic()
        for step in range(self._script.steps):
            _strike_at(step, self._script.fault)
            emit(_progress(self._script, step))
            share = (step + 1) / self._script.steps
            if not _wait_until(began + self._script.seconds * share, cancelled):
                raise LoadCancelled("The load was stopped.")
        loaded = _loaded(self._script, command, time.monotonic() - began)
        self._context_window = loaded.context_window
        emit(_ledger(self._script, 0))
        return loaded

    def generate(self, command: Generate, cancelled: Cancelled) -> Iterator[Event]:
        """The next reply of the script, at its speed. Raises NoModelLoaded, and what the script says."""
        if not self._context_window:
            raise NoModelLoaded("No model is loaded.", "Choose one with Ctrl+O.")
        turn = _Turn(command, next(self._replies), cancelled)
        meter = TurnMeter()
        for event in turn.events(self._script, self._context_used, self._context_window):
            meter.watch(event)
            yield event
        self._context_used = meter.usage().context_used
        yield _ledger(self._script, self._context_used)
        yield TurnFinished(finish_reason=turn.finish_reason, usage=meter.usage())

    def unload(self) -> None:
        """Forget the model."""
        self._context_window = self._context_used = 0


class _Turn:
    """One reply on its way."""

    def __init__(self, command: Generate, reply: Reply, cancelled: Cancelled) -> None:
        self.finish_reason = FinishReason.STOP
        self._reply = reply
        self._cancelled = cancelled
        self._limit = command.sampling.max_new_tokens
        self._prompt_tokens = sum(len(_pieces(message.content)) for message in command.messages)
        prompts = [message.content for message in command.messages if message.role is Role.USER]
        answer = reply.text.replace("{prompt}", prompts[-1] if prompts else "")
        self._tokens = [(text, True) for text in _pieces(reply.reasoning)]
        self._tokens += [(text, False) for text in _pieces(answer)]

    def events(self, script: Load, context_used: int, context_window: int) -> Iterator[Event]:
        reused = min(context_used, self._prompt_tokens)
        yield TurnStarted(
            prompt_tokens=self._prompt_tokens, reused_tokens=reused, context_window=context_window
        )
        yield from self._prefill(self._prompt_tokens - reused)
        if self.finish_reason is FinishReason.STOP:
            yield from self._decode(script, context_window)

    def _prefill(self, total: int) -> Iterator[Event]:
        began = time.monotonic()
        for chunk in range(1, _PREFILL_CHUNKS + 1):
            share = chunk / _PREFILL_CHUNKS
            if not _wait_until(began + self._reply.delay_seconds * share, self._cancelled):
                self.finish_reason = FinishReason.CANCELLED
                return
            yield PrefillProgress(done_tokens=int(total * share), total_tokens=total)

    def _decode(self, script: Load, context_window: int) -> Iterator[Event]:
        began = ledger_at = time.monotonic()
        for index, (text, reasoning) in enumerate(self._tokens):
            if self._prompt_tokens + index >= context_window:
                yield ContextFull(context_window=context_window)
            if self._ends_before(index, began, context_window):
                return
            _strike_at(index, self._reply.fault)
            yield TextDelta(text=text, reasoning=reasoning, completion_tokens=index + 1)
            if time.monotonic() - ledger_at >= _SECONDS_BETWEEN_LEDGERS:
                ledger_at = time.monotonic()
                yield _ledger(script, self._prompt_tokens + index + 1)

    def _ends_before(self, index: int, began: float, context_window: int) -> bool:
        speed = self._reply.tokens_per_second
        if self._prompt_tokens + index >= context_window or index == self._limit:
            self.finish_reason = FinishReason.LENGTH
        elif not _wait_until(began + (index / speed if speed else 0.0), self._cancelled):
            self.finish_reason = FinishReason.CANCELLED
        return self.finish_reason is not FinishReason.STOP


def _pieces(text: str) -> list[str]:
    return [text[at : at + CHARACTERS_PER_TOKEN] for at in range(0, len(text), CHARACTERS_PER_TOKEN)]


def _strike_at(position: int, fault: Fault | None) -> None:
    if fault is not None and fault.at == position:
        strike(fault)


def _wait_until(moment: float, cancelled: Cancelled) -> bool:
    """Sleep until then on the monotonic clock; False as soon as it is cancelled."""
    while not cancelled():
        left = moment - time.monotonic()
        if left <= 0:
            return True
        time.sleep(min(left, _SECONDS_BETWEEN_LOOKS))
    return False


def _progress(script: Load, step: int) -> LoadProgress:
    return LoadProgress(
        stage=_STAGES[step * len(_STAGES) // script.steps],
        done_bytes=script.weight_bytes * step // script.steps,
        total_bytes=script.weight_bytes,
        seconds_left=script.seconds * (script.steps - step) / script.steps,
    )


def _loaded(script: Load, command: LoadModel, seconds: float) -> ModelLoaded:
    placement = command.placement or _placement(script, command)
    return ModelLoaded(
        model=command.model,
        placement=placement,
        architecture=script.architecture,
        parameters=script.weight_bytes // _BYTES_PER_PARAMETER,
        dtype="bfloat16",
        context_window=placement.context_window,
        max_context_window=script.context_window,
        load_seconds=seconds,
        sampling=_SAMPLING,
    )


def _placement(script: Load, command: LoadModel | PlanLoad) -> Placement:
    context_window = command.context_window or script.context_window
    layer_bytes = script.weight_bytes // script.layers
    layers = tuple(
        LayerPlacement(name=f"model.layers.{index}", bytes=layer_bytes, tier=Tier.CPU, device="ram")
        for index in range(script.layers)
    )
    device = DevicePlan(
        device="ram",
        budget_bytes=command.budgets.ram_bytes or 4 * script.weight_bytes,
        weight_bytes=script.weight_bytes,
        kv_bytes=script.kv_bytes_per_token * context_window,
        runtime_bytes=_OTHER_BYTES,
        label="RAM",
    )
    return Placement(
        context_window=context_window,
        quantization=command.quantization,
        layers=layers,
        devices=(device,),
        fits=Fits.GPU_RAM,
        reasons=("A scripted engine keeps everything in RAM.",),
    )


def _ledger(script: Load, context_used: int) -> MemoryLedger:
    device = DeviceLedger(
        device="ram",
        weight_bytes=script.weight_bytes,
        kv_bytes=script.kv_bytes_per_token * context_used,
        other_bytes=_OTHER_BYTES,
    )
    return MemoryLedger(devices=(device,), context_used=context_used)
