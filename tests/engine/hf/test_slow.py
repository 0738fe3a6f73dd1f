"""Models so slow that a cancel cannot wait for the end of a step, and the number of threads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch

from engine.events import PrefillProgress, TextDelta
from engine.hf.decode import Runner
from engine.hf.threads import settle_threads
from engine.values import FinishReason
from tests import tiny_models
from tests.engine.hf.talk import Talk

LAYER_SECONDS = 0.03


class CancelAt:
    """A `cancelled` that turns True while a layer is being computed."""

    def __init__(self, forwards: int, entered: list[int]) -> None:
        self.forwards = forwards
        self.entered = entered

    def __call__(self) -> bool:
        return len(self.entered) >= self.forwards


@pytest.fixture
def entered() -> list[int]:
    """The layers that were computed, in order."""
    return []


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch, entered: list[int]) -> Iterator[Talk]:
    """A tiny llama whose layers take as long as if each was read from a disk; its own code computes them."""
    warm_up = Runner.warm_up

    def linger(index: int, *_: object) -> None:
        time.sleep(LAYER_SECONDS)
        entered.append(index)

    def slowed(self: Runner, token_ids: Any, _try_ways: object = None) -> torch.Tensor:
        model: Any = self._model
        for index, layer in enumerate(model.model.layers):
            layer.register_forward_hook(partial(linger, index))
        return warm_up(self, token_ids)

    monkeypatch.setattr(Runner, "warm_up", slowed)
    talk = Talk(tiny_models.checkpoint("llama"))
    entered.clear()
    yield talk
    talk.backend.unload()


def test_a_cancel_between_two_layers_ends_the_turn_before_the_step_ends(
    slow: Talk, entered: list[int]
) -> None:
    layers = len(slow.inner.runner._model.model.layers)
    said = slow.ask("Why?", cancelled=CancelAt(layers // 2, entered))
    assert said.finished.finish_reason is FinishReason.CANCELLED
    assert len(entered) == layers // 2
    assert said.of(TextDelta) == []


def test_what_an_interrupted_step_left_in_the_cache_is_taken_out(slow: Talk, entered: list[int]) -> None:
    whole = slow.ask("Why is that?")
    before = slow.cached
    entered.clear()
    slow.messages.append(slow.messages[0])
    said = slow.generate(cancelled=CancelAt(1, entered))
    assert said.finished.finish_reason is FinishReason.CANCELLED
    lengths = {layer.get_seq_length() for layer in slow.inner.runner.kv.cache.layers}
    assert lengths == {len(slow.cached)}
    assert before[: len(slow.cached)] == slow.cached
    del slow.messages[1:]
    assert slow.generate().text == whole.text


def test_a_cancel_in_a_slow_prefill_is_noticed_inside_its_chunk(slow: Talk, entered: list[int]) -> None:
    said = slow.ask(30 * "Why is prefill faster? ", cancelled=CancelAt(1, entered))
    assert said.finished.finish_reason is FinishReason.CANCELLED
    assert said.of(PrefillProgress) == []


@pytest.mark.parametrize(("slow_way", "expected"), [(1, 2), (2, 1)])
def test_the_number_of_threads_is_the_one_that_was_faster(slow_way: int, expected: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert settle_threads(lambda: time.sleep(0.02 * (torch.get_num_threads() == slow_way))) == expected
        assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)
