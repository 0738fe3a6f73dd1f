"""Sampling against transformers' own processors."""

from __future__ import annotations

import itertools

import msgspec
import pytest
import torch
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from engine.errors import DamagedCheckpoint
from engine.hf.sample import Sampler, Seen
from engine.values import SamplingParams

VOCABULARY = 300
CONTEXT = [3, 5, 5, 250]
CPU = torch.device("cpu")
PLAIN = SamplingParams(temperature=1.0, top_p=1.0, top_k=0, min_p=0.0, repetition_penalty=1.0, seed=7)
COMBINATIONS = list(
    itertools.product((0.3, 1.0, 1.7), (1.0, 0.9, 0.3), (0, 1, 40, 1000), (0.0, 0.1), (1.0, 1.3, 0.8))
)


def params(temperature: float, top_p: float, top_k: int, min_p: float, penalty: float) -> SamplingParams:
    return SamplingParams(
        temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p, repetition_penalty=penalty, seed=7
    )


def logits_of(seed: int) -> torch.Tensor:
    return torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 3


def expected_probabilities(chosen: SamplingParams, logits: torch.Tensor) -> torch.Tensor:
    processors = LogitsProcessorList()
    if chosen.repetition_penalty != 1.0:
        processors.append(RepetitionPenaltyLogitsProcessor(chosen.repetition_penalty))
    if chosen.temperature != 1.0:
        processors.append(TemperatureLogitsWarper(chosen.temperature))
    if chosen.top_k:
        processors.append(TopKLogitsWarper(chosen.top_k))
    if chosen.top_p != 1.0:
        processors.append(TopPLogitsWarper(chosen.top_p))
    if chosen.min_p:
        processors.append(MinPLogitsWarper(chosen.min_p))
    scores: torch.Tensor = processors(torch.tensor([CONTEXT]), logits.clone().unsqueeze(0))[0]
    return scores.softmax(-1)


@pytest.mark.parametrize("seed", range(3))
def test_every_combination_gives_the_probabilities_of_transformers(seed: int) -> None:
    logits = logits_of(seed)
    for combination in COMBINATIONS:
        chosen = params(*combination)
        token_ids, probabilities = Sampler(chosen, CONTEXT, CPU).candidates(logits)
        ours = torch.zeros(VOCABULARY)
        ours[torch.arange(VOCABULARY) if token_ids is None else token_ids] = probabilities
        torch.testing.assert_close(ours, expected_probabilities(chosen, logits), msg=str(combination))


def test_the_same_seed_draws_the_same_tokens_and_another_one_others() -> None:
    def drawn(seed: int) -> list[int]:
        sampler = Sampler(msgspec.structs.replace(PLAIN, seed=seed), CONTEXT, CPU)
        return [sampler.choose(logits_of(step)) for step in range(30)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_without_a_seed_two_replies_differ() -> None:
    unseeded = msgspec.structs.replace(PLAIN, seed=None)
    replies = [
        [s.choose(logits_of(n)) for n in range(30)] for s in (Sampler(unseeded, (), CPU) for _ in "ab")
    ]
    assert replies[0] != replies[1]


def test_temperature_zero_takes_the_best_token() -> None:
    sampler = Sampler(msgspec.structs.replace(PLAIN, temperature=0.0), CONTEXT, CPU)
    assert sampler.choose(logits_of(0)) == int(logits_of(0).argmax())


def test_the_repetition_penalty_counts_what_was_chosen_before() -> None:
    greedy = msgspec.structs.replace(PLAIN, temperature=0.0, repetition_penalty=10.0)
    sampler = Sampler(greedy, (), CPU)
    logits = torch.full((VOCABULARY,), 1.0)
    logits[10], logits[20] = 5.0, 4.0
    assert [sampler.choose(logits) for _ in range(3)][:2] == [10, 20]


def test_draws_follow_the_probabilities() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0])
    sampler = Sampler(PLAIN, (), CPU)
    counts = torch.bincount(torch.tensor([sampler.choose(logits) for _ in range(4000)]), minlength=3)
    torch.testing.assert_close(counts / 4000, logits.softmax(-1), atol=0.03, rtol=0)


@pytest.mark.parametrize("spread", [8.0, 1.5, 0.0])
def test_a_nucleus_in_a_large_vocabulary_is_that_of_transformers(spread: float) -> None:
    """Peaked, it lies among the best tokens; flat, it reaches beyond them."""
    logits = torch.randn(60_000, generator=torch.Generator().manual_seed(3)) * spread
    logits += torch.linspace(0.0, 1e-3, 60_000)  # no two the same: among equals the order is anyone's
    for top_p, min_p in itertools.product((0.3, 0.9, 0.999), (0.0, 0.05)):
        chosen = msgspec.structs.replace(PLAIN, top_p=top_p, min_p=min_p, temperature=0.8)
        token_ids, probabilities = Sampler(chosen, (), CPU).candidates(logits)
        ours = torch.zeros_like(logits)
        ours[torch.arange(len(logits)) if token_ids is None else token_ids] = probabilities
        expected = expected_probabilities(chosen, logits)
        assert float((ours - expected).abs().sum()) < 2e-3
        assert abs(int((ours > 0).sum()) - int((expected > 0).sum())) <= 1e-3 * int((expected > 0).sum())


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("place", [0, 17])
def test_logits_that_are_no_numbers_are_refused(temperature: float, place: int) -> None:
    logits = logits_of(0)
    logits[place] = float("nan")
    for top_k, top_p in ((0, 1.0), (40, 1.0), (0, 0.9)):
        chosen = msgspec.structs.replace(PLAIN, temperature=temperature, top_k=top_k, top_p=top_p)
        with pytest.raises(DamagedCheckpoint, match="NaN"):
            Sampler(chosen, (), CPU).choose(logits)


def test_a_token_that_may_not_come_is_never_drawn() -> None:
    logits = torch.full((VOCABULARY,), float("-inf"))
    logits[[7, 200]] = 0.0
    sampler = Sampler(PLAIN, (), CPU)
    assert {sampler.choose(logits) for _ in range(200)} == {7, 200}


def test_tokens_seen_are_kept_once_each_and_in_place() -> None:
    seen = Seen([5, 3, 5], CPU)
    before = seen.token_ids.data_ptr()
    for token in [*range(100), *range(100)]:
        seen.add(token)
    assert sorted(seen.token_ids.tolist()) == list(range(100))
    assert seen.token_ids.data_ptr() == before
    for token in range(5000):
        seen.add(token)
    assert sorted(seen.token_ids.tolist()) == list(range(5000))
