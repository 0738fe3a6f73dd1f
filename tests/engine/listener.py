"""Collects an engine's events and waits for them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from engine.commands import Generate, LoadModel
from engine.events import AnyEvent, Event, TextDelta
from engine.script import Script
from engine.values import ChatMessage, ModelRef, Role, SamplingParams

PATIENCE_SECONDS = 30.0
MODEL = ModelRef(name="scripted", folder=Path("/nowhere"))
Kind = TypeVar("Kind", bound=Event)


class Listener:
    def __init__(self) -> None:
        self.events: list[AnyEvent] = []
        self._changed = threading.Condition()

    def __call__(self, event: AnyEvent) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def of(self, kind: type[Kind], turn_id: int | None = None) -> list[Kind]:
        with self._changed:
            found = [event for event in self.events if isinstance(event, kind)]
        return [event for event in found if turn_id in (None, event.turn_id)]

    def wait_for(self, kind: type[Kind], turn_id: int | None = None, count: int = 1) -> Kind:
        self.wait(lambda: len(self.of(kind, turn_id)) >= count, f"{count} {kind.__name__} of {turn_id}")
        return self.of(kind, turn_id)[count - 1]

    def wait(self, condition: Callable[[], bool], what: str = "") -> None:
        with self._changed:
            came = self._changed.wait_for(condition, PATIENCE_SECONDS)
        assert came, f"{what} did not come within {PATIENCE_SECONDS} s; last: {self.events[-5:]}"

    def text(self, turn_id: int, *, reasoning: bool = False) -> str:
        deltas = self.of(TextDelta, turn_id)
        return "".join(delta.text for delta in deltas if delta.reasoning is reasoning)


def load(turn_id: int) -> LoadModel:
    return LoadModel(turn_id=turn_id, model=MODEL)


def ask(turn_id: int, prompt: str = "hello", max_new_tokens: int | None = None) -> Generate:
    message = ChatMessage(role=Role.USER, content=prompt)
    sampling = SamplingParams(max_new_tokens=max_new_tokens)
    return Generate(turn_id=turn_id, messages=(message,), sampling=sampling)


def write_script(folder: Path, script: Script) -> str:
    """A scripted backend's name, for EngineProcess."""
    path = folder / "script.json"
    path.write_bytes(msgspec.json.encode(script))
    return f"scripted:{path}"
