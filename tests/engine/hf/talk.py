"""A talk with a real backend, for tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from engine.commands import Generate, LoadModel
from engine.events import Event, TextDelta, TurnFinished, TurnStarted
from engine.hf.backend import HFBackend
from engine.values import (
    BudgetRequest,
    ChatMessage,
    CodeFile,
    LayerPlacement,
    ModelRef,
    Placement,
    Quantization,
    Role,
    SamplingParams,
    Tier,
)
from tests import tiny_models

GREEDY = SamplingParams(temperature=0.0, max_new_tokens=10)


def never() -> bool:
    return False


class After:
    """A `cancelled` that turns True at its n-th question."""

    def __init__(self, questions: int) -> None:
        self.left = questions
        self.asked = 0

    def __call__(self) -> bool:
        self.asked += 1
        self.left -= 1
        return self.left < 0


class Said(NamedTuple):
    events: list[Event]

    @property
    def text(self) -> str:
        return "".join(e.text for e in self.events if isinstance(e, TextDelta) and not e.reasoning)

    @property
    def reasoning(self) -> str:
        return "".join(e.text for e in self.events if isinstance(e, TextDelta) and e.reasoning)

    @property
    def started(self) -> TurnStarted:
        return next(e for e in self.events if isinstance(e, TurnStarted))

    @property
    def finished(self) -> TurnFinished:
        last = self.events[-1]
        assert isinstance(last, TurnFinished)
        return last

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


class Talk:
    """A loaded model and the conversation with it."""

    def __init__(
        self,
        folder: Path,
        placement: Placement | None = None,
        *,
        budgets: BudgetRequest | None = None,
        quantization: Quantization = Quantization.NONE,
        trusted: tuple[CodeFile, ...] = (),
        adapter: Path | None = None,
    ) -> None:
        """Load a model: as placed, as planned within budgets, or in RAM."""
        self.backend = HFBackend()
        self.progress: list[Event] = []
        self.messages: list[ChatMessage] = []
        command = LoadModel(
            model=ModelRef(name=folder.name, folder=folder, adapter=adapter),
            placement=placement if placement or budgets else in_ram(),
            budgets=budgets or BudgetRequest(),
            quantization=quantization,
            trusted=trusted,
        )
        self.loaded = self.backend.load(command, self.progress.append, never)

    def ask(
        self,
        text: str,
        sampling: SamplingParams = GREEDY,
        cancelled: Callable[[], bool] = never,
    ) -> Said:
        """Say something as the user, and keep the reply in the conversation."""
        self.messages.append(ChatMessage(role=Role.USER, content=text))
        said = self.generate(sampling, cancelled)
        self.messages.append(ChatMessage(role=Role.ASSISTANT, content=said.text, reasoning=said.reasoning))
        return said

    def generate(
        self,
        sampling: SamplingParams = GREEDY,
        cancelled: Callable[[], bool] = never,
        *,
        continue_reply: bool = False,
    ) -> Said:
        command = Generate(messages=tuple(self.messages), sampling=sampling, continue_reply=continue_reply)
        return Said(list(self.backend.generate(command, cancelled)))

    @property
    def inner(self) -> Any:
        """The loaded model's parts."""
        assert self.backend._loaded is not None
        return self.backend._loaded

    @property
    def cached(self) -> list[int]:
        """The token ids in the KV cache."""
        return list(self.inner.runner.kv.token_ids)

    def prompt_ids(self) -> list[int]:
        """The ids of the conversation so far, without its last reply."""
        until = [*self.messages]
        if until[-1].role is Role.ASSISTANT:
            until.pop()
        return list(self.inner.window.fit(until, GREEDY.max_new_tokens).token_ids)


def in_ram(context_window: int = tiny_models.CONTEXT_WINDOW) -> Placement:
    """Everything in RAM."""
    return Placement(context_window=context_window)


def on_disk(layers: str, indices: range, offload: Path, others: Tier = Tier.CPU) -> Placement:
    """Some layers on the disk, and all that is no layer on the tier `others`.

    Args:
        layers: path of the list of layers ("model.layers").
        indices: of the layers on disk.
        offload: folder for rewritten tensors.
        others: where everything else lies.
    """
    names = [f"{layers}.{index}" for index in range(4)]
    tiers = [Tier.DISK if index in indices else others for index in range(4)]
    root = layers.partition(".")[0]
    placed = [_layer(name, tier) for name, tier in zip(names, tiers, strict=True)]
    placed += [_layer("lm_head", others)]
    placed += [_layer(f"{root}.{name}", others) for name in ("embed_tokens", "wte", "norm", "ln_f")]
    return Placement(context_window=tiny_models.CONTEXT_WINDOW, layers=tuple(placed), offload_folder=offload)


def _layer(name: str, tier: Tier) -> LayerPlacement:
    return LayerPlacement(name=name, bytes=0, tier=tier, device="disk" if tier is Tier.DISK else "ram")


def quantized(kind: Quantization) -> Placement:
    """Everything in RAM, quantized on load."""
    return Placement(context_window=tiny_models.CONTEXT_WINDOW, quantization=kind)
