"""Replies that quote: the same tokens in fewer forwards, and a cache that holds nothing else."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch

from engine.hf import drafts
from engine.hf.decode import Runner
from engine.hf.steps import Steps
from engine.values import FinishReason
from tests import tiny_models
from tests.engine.hf.dryruns import CPU, loaded
from tests.engine.hf.talk import Talk, in_ram
from tests.engine.hf.test_turn import with_changes

QUESTION = 6 * "Why is prefill faster than decode? "
FAMILIES = ["llama", "qwen3_moe", "gptj", "glm"]


class Replied(NamedTuple):
    logits: torch.Tensor
    guessed: int
    held: list[int]


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every guess is computed, whatever a tiny model's forwards take."""
    monkeypatch.setattr(drafts.Worth, "is_open", lambda _: True)


def behind_each(runner: Runner, prompt: list[int], reply: list[int], *, guesses: bool) -> Replied:
    """The logits behind every token of a reply that was decided beforehand."""
    runner.kv.drop()
    runner.feed(prompt)
    steps = Steps(runner, prompt, tiny_models.CONTEXT_WINDOW)
    if not guesses:
        steps._drafts = None
    logits = torch.stack([steps.behind(token).float() for token in reply])
    steps.finish()
    return Replied(logits, steps.guessed, list(runner.kv.token_ids))


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_reply_that_quotes_takes_fewer_forwards_and_computes_the_same(family: str) -> None:
    runner = Runner(loaded(tiny_models.checkpoint(family)), CPU)
    prompt = list(range(5, 45))
    reply = [*prompt[10:30], 60, 61, 62, *prompt[3:20]]
    plain = behind_each(runner, prompt, reply, guesses=False)
    told = behind_each(runner, prompt, reply, guesses=True)
    assert plain.guessed == 0
    assert told.guessed > len(reply) // 2
    assert torch.allclose(told.logits, plain.logits, atol=1e-4)
    assert told.held == plain.held == prompt + reply
    assert {layer.get_seq_length() for layer in runner.kv.cache.layers} == {len(told.held)}


@pytest.mark.parametrize("family", ["gemma2", "qwen3_next"])
def test_a_cache_that_forgets_is_never_fed_on_trial(family: str) -> None:
    runner = Runner(loaded(tiny_models.checkpoint(family)), CPU)
    assert not runner.can_guess
    assert behind_each(runner, [5, 6, 7, 8, 9] * 8, [5, 6, 7, 8, 9] * 4, guesses=True).guessed == 0


@pytest.mark.usefixtures("always")
def test_a_turn_ends_with_exactly_its_tokens_in_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    talk = Talk(tiny_models.checkpoint("llama"), in_ram())
    plain = talk.ask(QUESTION, with_changes(max_new_tokens=20))
    talk.messages.clear()
    monkeypatch.setattr(drafts.Drafts, "guess", lambda _: [7, 7, 7])  # mostly wrong
    said = talk.ask(QUESTION, with_changes(max_new_tokens=20))
    usage = said.finished.usage
    assert said.text == plain.text
    assert len(talk.cached) == usage.prompt_tokens + usage.completion_tokens - 1
    following = talk.ask("And then?")
    assert following.started.reused_tokens == usage.prompt_tokens + usage.completion_tokens - 1
    talk.backend.unload()


@pytest.mark.usefixtures("always")
def test_guesses_end_where_the_window_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drafts.Drafts, "guess", lambda _: [7, 7, 7])
    talk = Talk(tiny_models.checkpoint("llama"), in_ram(context_window=100))
    said = talk.ask("Why?", with_changes(max_new_tokens=None))
    assert said.finished.finish_reason is FinishReason.LENGTH
    assert said.finished.usage.context_used == 100
    assert len(talk.cached) == 99
    talk.backend.unload()
