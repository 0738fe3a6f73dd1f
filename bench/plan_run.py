"""One planned load and one conversation that fills the context, through an engine process of its own."""

from __future__ import annotations

import queue
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from bench.plan_watch import Cage, Peak, Resident, Watch, resident
from engine import EngineProcess
from engine.commands import AnyCommand, Generate, LoadModel
from engine.events import (
    AnyEvent,
    EngineEnded,
    EngineReady,
    Failed,
    ModelLoaded,
    TextDelta,
    TurnFinished,
)
from engine.values import ChatMessage, FinishReason, ModelRef, Placement, Role, SamplingParams

PATIENCE_SECONDS = 600.0
REPLIES, REPLIES_SECONDS = 5, 30.0
"""Of the same prompt: other guests' use of the memory comes and goes within seconds."""
LOAD, PREFILL, DECODE = "load", "prefill", "decode"
_WORDS = "Why is prefill faster than decode? "


class RunFailed(Exception):  # noqa: N818 - named for what happened, as the engine's own errors are
    """The engine did not do what the plan said it would.

    Attributes:
        error: class of the failure ("OutOfMemory", "EngineEnded").
        out_of_memory: there was too little.
    """

    def __init__(self, error: str, message: str, *, out_of_memory: bool) -> None:
        """Keep what was said."""
        super().__init__(f"{error}: {message}")
        self.error = error
        self.out_of_memory = out_of_memory


class Run(NamedTuple):
    """What one case took.

    Attributes:
        start: what lay in RAM before any model.
        peaks: most bytes resident by phase: load, prefill, decode.
        load_seconds: from the command to ModelLoaded.
        decode_tps: of the reply, tokens per second: the median of several.
        prefill_tps: of the prompt.
        first_token_seconds: time to first token.
        context_used: tokens in the cache at the end.
    """

    start: Resident
    peaks: dict[str, Peak]
    load_seconds: float
    decode_tps: float
    prefill_tps: float
    first_token_seconds: float
    context_used: int

    @property
    def peak_bytes(self) -> int:
        """The most of all phases."""
        return max(peak.total for peak in self.peaks.values())


class EngineClient:
    """One engine process in a cage, asked one thing after another."""

    def __init__(self, group: Cage) -> None:
        """Start it and wait until it accepts commands."""
        self._events: queue.Queue[AnyEvent] = queue.Queue()
        self._turn_id = 0
        self._group = group
        self._engine = EngineProcess(self._events.put)
        self._engine.start()
        while self._engine.pid is None:
            time.sleep(0.001)
        group.hold(self._engine.pid)
        self.wait(EngineReady)

    @property
    def pid(self) -> int:
        """The process."""
        return self._engine.pid or 0

    def ask(self, make: Callable[[int], AnyCommand]) -> int:
        """Submit a command with the next number, and return that."""
        self._turn_id += 1
        self._engine.submit(make(self._turn_id))
        return self._turn_id

    def wait(self, *kinds: type[AnyEvent]) -> AnyEvent:
        """Return the next event of these kinds. Raises RunFailed when the command or the process fails."""
        while True:
            try:
                event = self._events.get(timeout=PATIENCE_SECONDS)
            except queue.Empty:
                message = f"no event in {PATIENCE_SECONDS:.0f} s"
                raise RunFailed("Timeout", message, out_of_memory=False) from None
            _refuse_failure(event)
            if isinstance(event, kinds):
                return event

    def close(self) -> None:
        """End the process."""
        self._engine.close()


def _refuse_failure(event: AnyEvent) -> None:
    if isinstance(event, EngineEnded):
        raise RunFailed("EngineEnded", event.message, out_of_memory=event.out_of_memory)
    if isinstance(event, Failed):
        raise RunFailed(event.error, event.message, out_of_memory=event.error == "OutOfMemory")
    if isinstance(event, TurnFinished) and event.finish_reason is FinishReason.FAILED:
        raise RunFailed(event.error, event.message, out_of_memory=event.error == "OutOfMemory")


def run(  # noqa: PLR0913, PLR0917 - what is loaded, what is said, and who watches
    client: EngineClient,
    folder: Path,
    placement: Placement,
    prompt: str,
    reply_tokens: int,
    probe: Callable[[], object],
) -> Run:
    """Load, fill the context, answer the same several times, and watch.

    Args:
        client: a fresh one, for figures that can be compared.
        folder: the model's.
        placement: the plan.
        prompt: of `prompt_of`, as long as the context allows.
        reply_tokens: decoded behind it.
        probe: is called before each reply.
    """
    start = resident(client.pid)
    watch = Watch(client.pid)
    try:
        watch.enter(LOAD)
        loaded = _load(client, folder, placement)
        watch.enter(PREFILL)
        probe()
        finished = _talk(client, prompt, reply_tokens, lambda: watch.enter(DECODE))
        speeds = [finished.usage.decode_tps, *_repeated(client, prompt, reply_tokens, probe)]
    finally:
        peaks = watch.stop()
    return Run(
        start=start,
        peaks=peaks,
        load_seconds=loaded.load_seconds,
        decode_tps=statistics.median(speeds),
        prefill_tps=finished.usage.prefill_tps,
        first_token_seconds=finished.usage.time_to_first_token,
        context_used=finished.usage.context_used,
    )


def _repeated(
    client: EngineClient, prompt: str, reply_tokens: int, probe: Callable[[], object]
) -> Iterator[float]:
    """Answer again behind the prompt that is kept; tokens per second."""
    end = time.perf_counter() + REPLIES_SECONDS
    for _ in range(REPLIES - 1):
        if time.perf_counter() > end:
            break
        probe()
        yield _talk(client, prompt, reply_tokens, lambda: None).usage.decode_tps


def _load(client: EngineClient, folder: Path, placement: Placement) -> ModelLoaded:
    model = ModelRef(name=folder.name, folder=folder)
    client.ask(lambda turn_id: LoadModel(turn_id=turn_id, model=model, placement=placement))
    loaded = client.wait(ModelLoaded)
    assert isinstance(loaded, ModelLoaded)
    return loaded


def _talk(client: EngineClient, prompt: str, reply_tokens: int, on_first: Callable[[], None]) -> TurnFinished:
    message = ChatMessage(role=Role.USER, content=prompt)
    sampling = SamplingParams(temperature=1.0, seed=1, max_new_tokens=reply_tokens)
    client.ask(lambda turn_id: Generate(turn_id=turn_id, messages=(message,), sampling=sampling))
    event = client.wait(TextDelta, TurnFinished)
    on_first()
    while not isinstance(event, TurnFinished):
        event = client.wait(TurnFinished)
    return event


def prompt_of(tokenizer: object, tokens: int) -> str:
    """A message that takes so many tokens with the chat template, or a few less."""
    count = _counter(tokenizer)
    one = count(_WORDS) - count("")
    words = _WORDS * max(1, (tokens - count("")) // one)
    while count(words) > tokens:
        words = words[: -len(_WORDS)]
    return words


def _counter(tokenizer: object) -> Callable[[str], int]:
    apply = getattr(tokenizer, "apply_chat_template")  # noqa: B009 - the class has no types

    def count(text: str) -> int:
        messages = [{"role": "user", "content": text}]
        return len(apply(messages, add_generation_prompt=True, tokenize=True, return_dict=False))

    return count
