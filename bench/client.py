"""An engine process that is asked one thing after another, and when it answered."""

from __future__ import annotations

import queue
import random
import time
from collections.abc import Callable
from pathlib import Path

from engine import EngineProcess
from engine.commands import Generate, LoadModel, UnloadModel
from engine.events import (
    AnyEvent,
    Failed,
    LoadProgress,
    ModelLoaded,
    ModelUnloaded,
    TextDelta,
    TurnFinished,
)
from engine.values import ChatMessage, FinishReason, LoadStage, ModelRef, Placement, Role, SamplingParams

SEED = 1
PATIENCE = 120.0
WINDOW = 2048
ENDLESS = SamplingParams(temperature=1.0, seed=1, max_new_tokens=1000)
SHORT = SamplingParams(temperature=0.0, max_new_tokens=24)
ONE_TOKEN = SamplingParams(temperature=0.0, max_new_tokens=1)


def never() -> bool:
    """Go on."""
    return False


def load_command(folder: Path, turn_id: int = 0) -> LoadModel:
    """Everything in RAM."""
    model = ModelRef(name=folder.name, folder=folder)
    return LoadModel(turn_id=turn_id, model=model, placement=Placement(context_window=WINDOW))


def generate_command(text: str, sampling: SamplingParams, turn_id: int = 0) -> Generate:
    """One question without a history."""
    message = ChatMessage(role=Role.USER, content=text)
    return Generate(turn_id=turn_id, messages=(message,), sampling=sampling)


class Client:
    """One engine process, and the times of its answers."""

    def __init__(self) -> None:
        """Start it."""
        self._events: queue.Queue[tuple[float, AnyEvent]] = queue.Queue()
        self._turn_id = 0
        self._random = random.Random(SEED)
        self._engine = EngineProcess(lambda event: self._events.put((time.perf_counter(), event)))
        self._engine.start()

    def load(self, folder: Path) -> None:
        """Load and wait."""
        self._turn_id += 1
        self._engine.submit(load_command(folder, self._turn_id))
        self._wait(lambda event: isinstance(event, ModelLoaded))

    @property
    def pid(self) -> int:
        """The process."""
        return self._engine.pid or 0

    def unload(self) -> float:
        """Unload and wait; return when it was done."""
        self._turn_id += 1
        self._engine.submit(UnloadModel(turn_id=self._turn_id))
        return self._wait(lambda event: isinstance(event, ModelUnloaded))[0]

    def answer(self, text: str) -> float:
        """Ask for one token, and return when it was there."""
        self._turn_id += 1
        self._engine.submit(generate_command(text, ONE_TOKEN, self._turn_id))
        return self._wait(lambda event: isinstance(event, TextDelta | TurnFinished))[0]

    def step_seconds(self, text: str) -> float:
        """Seconds of one token in decode: the mean of a short answer."""
        self._turn_id += 1
        self._engine.submit(generate_command(text, SHORT, self._turn_id))
        _, ended = self._wait(lambda event: isinstance(event, TurnFinished))
        return 1 / ended.usage.decode_tps if isinstance(ended, TurnFinished) else 0.0

    def cancel_load(self, folder: Path, stage: LoadStage) -> float:
        """Cancel a load when it enters a stage; seconds until it has ended."""
        self._turn_id += 1
        self._engine.submit(load_command(folder, self._turn_id))
        self._wait(lambda event: isinstance(event, LoadProgress) and event.stage is stage)
        seconds, _ = self._cancel(Failed)
        return seconds

    def cancel_turn(self, text: str, kind: type[AnyEvent], within: float) -> float:
        """Cancel a turn at a random moment after its first event of a kind; seconds until it has ended.

        A turn that has ended of itself by then is asked again, and cancelled sooner.
        """
        while True:
            self._turn_id += 1
            self._engine.submit(generate_command(text, ENDLESS, self._turn_id))
            self._wait(lambda event: isinstance(event, kind))
            time.sleep(self._random.uniform(0.0, within))
            seconds, ended = self._cancel(TurnFinished)
            if isinstance(ended, TurnFinished) and ended.finish_reason is FinishReason.CANCELLED:
                return seconds
            within /= 4

    def close(self) -> None:
        """End the process."""
        self._engine.close()

    def _cancel(self, end: type[AnyEvent]) -> tuple[float, AnyEvent]:
        began = time.perf_counter()
        self._engine.cancel(self._turn_id)
        at, event = self._wait(lambda event: isinstance(event, end))
        return at - began, event

    def _wait(self, wanted: Callable[[AnyEvent], bool]) -> tuple[float, AnyEvent]:
        """Return the wanted event of the command that runs, and when it arrived."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            at, event = self._events.get(timeout=PATIENCE)
            if event.turn_id == self._turn_id and wanted(event):
                return at, event
            if isinstance(event, Failed) and event.turn_id == self._turn_id:
                raise SystemExit(event.message)
        raise SystemExit("The engine did not answer.")
