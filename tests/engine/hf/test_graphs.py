"""Recorded steps compute what eager ones do; what cannot be recorded is said."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache

from engine.hf.graphs import Cursor, GraphedSteps, Step, steady_cache
from tests import tiny_models

CPU = torch.device("cpu")
PROMPT = list(range(3, 40))
CAPACITY = 200
FULL_ATTENTION = ("llama", "qwen2", "qwen3", "qwen3_moe", "mixtral", "gpt_neox", "stablelm", "phi3", "glm")


def called(step: Step) -> Step:
    """Record nothing: compute it again each time."""
    return step


def load(family: str) -> Any:
    folder = tiny_models.checkpoint(family)
    return AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()


def steps_of(model: Any) -> tuple[GraphedSteps, DynamicCache]:
    cursor = Cursor(CPU)
    cache = steady_cache(model.config, CAPACITY, cursor)
    assert cache is not None
    return GraphedSteps(model, cache, cursor, called), cache


@torch.inference_mode()
def greedy(model: Any, steps: GraphedSteps, cache: DynamicCache, count: int) -> list[int]:
    logits = model(input_ids=torch.tensor([PROMPT]), past_key_values=cache, use_cache=True).logits[0, -1]
    said: list[int] = []
    for _ in range(count):
        said.append(int(logits.argmax()))
        logits = steps.step(said[-1], len(PROMPT) + len(said) - 1)
    return said


def generated(model: Any, count: int) -> list[int]:
    ids = torch.tensor([PROMPT])
    reply = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=count,
        do_sample=False,
        eos_token_id=None,
    )
    return [int(token) for token in reply[0, len(PROMPT) :]]


@pytest.mark.parametrize("family", FULL_ATTENTION)
def test_steps_say_what_generate_says(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.hf.graphs.FIRST_BUCKET", 48)
    model = load(family)
    model.generation_config.eos_token_id = None
    steps, cache = steps_of(model)
    assert greedy(model, steps, cache, 64) == generated(model, 64)
    assert sorted(steps._recorded) == [48, 96, 192]


def test_an_eager_turn_goes_on_behind_steps() -> None:
    model = load("llama")
    steps, cache = steps_of(model)
    said = greedy(model, steps, cache, 10)
    steps.settle(len(PROMPT) + 9)
    with torch.inference_mode():
        behind = model(input_ids=torch.tensor([[said[9], 5, 7]]), past_key_values=cache).logits[0, -1]
        whole = model(input_ids=torch.tensor([[*PROMPT, *said, 5, 7]])).logits[0, -1]
    assert torch.allclose(behind, whole, atol=1e-4)


def test_a_cropped_cache_is_written_over() -> None:
    model = load("llama")
    steps, cache = steps_of(model)
    first = greedy(model, steps, cache, 8)
    steps.settle(len(PROMPT) + 8)
    cache.crop(-(len(PROMPT) + 8))
    assert cache.get_seq_length() == 0
    assert greedy(model, steps, cache, 8) == first


def test_beyond_its_capacity_the_cache_grows() -> None:
    model = load("llama")
    _, cache = steps_of(model)
    ids = torch.arange(250)[None]
    with torch.inference_mode():
        assert torch.equal(model(input_ids=ids, past_key_values=cache).logits, model(input_ids=ids).logits)
    assert cache.get_seq_length() == 250


def test_the_self_test_passes_sound_steps_and_leaves_nothing() -> None:
    model = load("llama")
    steps, cache = steps_of(model)
    assert steps.disagreement(PROMPT[:8]) == ""
    assert cache.get_seq_length() == 0
    assert model.config._attn_implementation == "sdpa"


def test_the_self_test_finds_wrong_steps() -> None:
    model = load("llama")
    cursor = Cursor(CPU)

    def wrong(step: Step) -> Step:
        return lambda: step().roll(1)

    steps = GraphedSteps(model, steady_cache(model.config, CAPACITY, cursor), cursor, wrong)
    assert "are off by" in steps.disagreement(PROMPT[:8])


def test_what_cannot_be_recorded_is_said() -> None:
    model = load("llama")
    cursor = Cursor(CPU)

    def refuse(_: Step) -> Step:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    steps = GraphedSteps(model, steady_cache(model.config, CAPACITY, cursor), cursor, refuse)
    assert steps.disagreement(PROMPT[:8]) == (
        "A step cannot be recorded: operation not permitted when stream is capturing"
    )


@pytest.mark.parametrize("family", ["gemma2", "qwen3_next", "falcon_h1"])
def test_layers_that_forget_are_not_recorded(family: str) -> None:
    assert steady_cache(load(family).config, CAPACITY, Cursor(CPU)) is None
