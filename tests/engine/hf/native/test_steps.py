"""Whole steps in turns: what they leave in the cache, how they are stopped, and what failures do."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from engine.hf.decode import Interrupted, Runner
from engine.hf.growing import GrowingLayer
from engine.hf.growing_hybrid import GrowingHybridLayer
from engine.hf.native.decoder import NativeDecoder
from engine.hf.native.layers import Untranslatable
from engine.hf.native.library import Kernels
from engine.hf.native.trial import translated
from engine.hf.ways import SLOW_STEP_SECONDS, cancelling
from engine.values import FinishReason
from tests import tiny_models
from tests.engine.hf.native.greedy import generated, model_of, prompt, replied, sample_of
from tests.engine.hf.talk import Talk, never

CPU = torch.device("cpu")


def runner_of(model: Any, kernels: Kernels) -> Runner:
    runner = Runner(model, CPU)
    runner.decoder = translated(model, kernels, sample_of(runner))
    assert runner.decoder is not None
    runner.kv.drop()
    return runner


def contents(runner: Runner) -> list[torch.Tensor]:
    layers: list[Any] = runner.kv.cache.layers
    return [states.clone() for layer in layers for states in (layer.keys, layer.values)]


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_what_steps_left_is_cropped_gone_on_from_and_prefilled_behind(family: str, kernels: Kernels) -> None:
    model = model_of(tiny_models.checkpoint(family))
    runner = runner_of(model, kernels)
    first = prompt(12)
    assert replied(runner, first, 9) == generated(model, first, 9)
    edited = [*runner.kv.token_ids[:15], *prompt(30, 2)]
    kept = runner.kv.reuse(edited)
    assert kept == 15
    assert replied(runner, edited[kept:], 20) == generated(model, edited, 20)


@pytest.mark.parametrize("tokens", range(1, 9))
def test_a_prompt_of_a_few_tokens_is_one_step_on_an_empty_cache(tokens: int, kernels: Kernels) -> None:
    model = model_of(tiny_models.checkpoint("qwen3"))
    prompt_ids = prompt(tokens)
    assert replied(runner_of(model, kernels), prompt_ids, 8) == generated(model, prompt_ids, 8)


def test_the_cache_moves_to_larger_rooms_and_steps_go_on(kernels: Kernels) -> None:
    model = model_of(tiny_models.checkpoint("llama"))
    runner = runner_of(model, kernels)
    runner.kv.foresee(300)
    prompt_ids = prompt(230)
    assert replied(runner, prompt_ids, 71) == generated(model, prompt_ids, 71)
    assert all(layer.keys.untyped_storage().nbytes() == 2 * 300 * 8 * 4 for layer in runner.kv.cache.layers)


def test_layers_that_hold_more_than_keys_and_values_are_left_to_the_models_own_code(kernels: Kernels) -> None:
    runner = runner_of(model_of(tiny_models.checkpoint("llama")), kernels)
    decoder: Any = runner.decoder
    kinds = (GrowingLayer, GrowingHybridLayer)
    plain, hybrid = ([kind() for _ in runner.kv.cache.layers] for kind in kinds)
    for layer in (*plain, *hybrid):
        layer.update(torch.ones(1, 2, 3, 8), torch.ones(1, 2, 3, 8))
    assert decoder.suits(plain)
    assert not decoder.suits([*plain[1:], hybrid[0]])
    with pytest.raises(Untranslatable, match="another kind"):
        NativeDecoder(model_of(tiny_models.checkpoint("falcon_h1")), kernels)


def test_a_cancelled_step_leaves_the_cache_as_it_was_and_the_next_one_runs(kernels: Kernels) -> None:
    model = model_of(tiny_models.checkpoint("llama"))
    runner = runner_of(model, kernels)
    prompt_ids = prompt(20)
    runner.feed(prompt_ids)
    before = contents(runner)
    kernels.cancel()
    with pytest.raises(Interrupted):
        runner.feed([7])
    kernels.cancel(wanted=False)
    runner.kv.mend()
    assert runner.kv.token_ids == prompt_ids
    assert all(map(torch.equal, contents(runner), before))
    assert runner.kv.reuse([*prompt_ids, 7, 8]) == len(prompt_ids)
    assert replied(runner, [7, 8], 9) == generated(model, [*prompt_ids, 7, 8], 9)


def test_a_cancel_is_noticed_inside_a_slow_step(kernels: Kernels) -> None:
    """The step is one that the kernels would be at for minutes: a token of a model, over and over."""
    model = model_of(tiny_models.checkpoint("llama"))
    runner = runner_of(model, kernels)
    runner.feed(prompt(20))
    runner.pace.note_step(2 * SLOW_STEP_SECONDS)
    asked_at: list[float] = []

    def wanted() -> bool:
        asked_at.append(time.monotonic())
        return True

    runner.cancelled = wanted
    decoder: Any = runner.decoder

    class Long:
        most_tokens = 8
        cancel = staticmethod(decoder.cancel)

        def feed(self, token_ids: Sequence[int], layers: Sequence[Any]) -> torch.Tensor | None:
            for _ in range(10**6):
                if decoder.feed(token_ids, layers) is None:
                    return None
                for layer in layers:
                    layer.crop(-len(token_ids))
            raise AssertionError("never cancelled")

    runner.decoder = Long()
    with pytest.raises(Interrupted):
        runner.feed([7])
    assert time.monotonic() - asked_at[0] < 1.0
    runner.decoder, runner.cancelled = decoder, never
    assert runner.feed([7]).shape == (model.config.vocab_size,)


def test_a_watch_ends_with_its_step_and_allows_the_next_one() -> None:
    calls: list[bool] = []
    threads = threading.active_count()

    def cancel(*, wanted: bool = True) -> None:
        calls.append(wanted)

    with cancelling(cancel, never):
        pass
    with cancelling(cancel, lambda: True):
        deadline = time.monotonic() + 10
        while True not in calls and time.monotonic() < deadline:
            time.sleep(0.001)
    assert calls == [False, True, False]
    assert threading.active_count() == threads


def test_only_slow_steps_are_watched(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = runner_of(model_of(tiny_models.checkpoint("llama")), kernels)
    started: list[object] = []
    start = threading.Thread.start

    def counted(thread: threading.Thread) -> None:
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", counted)
    assert not runner.pace.is_slow
    runner.feed([7])
    assert started == []
    runner.pace.note_step(2 * SLOW_STEP_SECONDS)
    runner.feed([7])
    assert len(started) == 1


def test_a_step_that_finds_no_memory_ends_its_turn_and_the_next_one_works(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = Talk(tiny_models.checkpoint("llama"))
    expected = talk.ask("Why is that?").text
    talk.messages.clear()
    with monkeypatch.context() as patch:

        def failing(*_: object) -> None:
            raise MemoryError

        patch.setattr(talk.inner.runner.decoder, "feed", failing)
        said = talk.ask("Why is that?")
    assert said.finished.finish_reason is FinishReason.FAILED
    assert said.finished.error == "OutOfMemory"
    talk.messages.clear()
    assert talk.ask("Why is that?").text == expected
    talk.backend.unload()
