"""Every family: two turns, greedy, token-identical to model.generate, and nothing computed twice."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from engine.commands import Generate
from engine.values import ChatMessage, Role, Tier
from tests import tiny_models
from tests.engine.hf.talk import GREEDY, Said, Talk, in_ram, never, on_disk

FORGETFUL = ("qwen3_next", "falcon_h1", "gemma2")
LONG_QUESTION = "Why is prefill faster than decode? Because every prompt token is computed in one pass."
DISK_LAYERS = {"llama": "model.layers", "qwen3_moe": "model.layers", "gptj": "transformer.h"}


@cache
def reference(family: str) -> Any:
    """The same checkpoint, loaded by transformers alone."""
    transformers_logging.disable_progress_bar()
    return AutoModelForCausalLM.from_pretrained(tiny_models.checkpoint(family), local_files_only=True)


def generated(family: str, prompt_ids: list[int]) -> list[int]:
    ids = torch.tensor([prompt_ids])
    reply = reference(family).generate(
        ids,
        attention_mask=torch.ones_like(ids),  # it would hide padding tokens that a reply may hold
        max_new_tokens=GREEDY.max_new_tokens,
        do_sample=False,
    )
    return [int(token) for token in reply[0, len(prompt_ids) :]]


def replied(talk: Talk, prompt_ids: list[int], tokens: int) -> list[int]:
    """The reply's ids that are in the cache: all but the last one, which was never fed."""
    cached = talk.cached
    assert cached[: len(prompt_ids)] == prompt_ids
    assert len(cached) == len(prompt_ids) + tokens - 1
    return cached[len(prompt_ids) :]


def check_two_turns(family: str, talk: Talk) -> None:
    first = talk.ask(2 * LONG_QUESTION)
    first_ids = talk.prompt_ids()
    expected = generated(family, first_ids)
    assert replied(talk, first_ids, len(expected)) == expected[:-1]
    assert first.finished.usage.completion_tokens == len(expected)
    computed = len(talk.cached)

    second = talk.ask("And the cache of keys and values?")
    second_ids = talk.prompt_ids()
    assert second.started.reused_tokens == computed
    assert second_ids[:computed] == first_ids + expected[:-1]
    assert (
        replied(talk, second_ids, second.finished.usage.completion_tokens)
        == generated(family, second_ids)[:-1]
    )


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_two_turns_are_identical_to_generate_and_reuse_all_that_was_computed(family: str) -> None:
    folder = tiny_models.checkpoint(family)
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 1_000_000
    talk = Talk(folder, in_ram())
    check_two_turns(family, talk)
    talk.backend.unload()


@pytest.mark.parametrize("family", DISK_LAYERS)
def test_half_of_the_layers_on_disk_changes_no_token(family: str, tmp_path: Path) -> None:
    placement = on_disk(DISK_LAYERS[family], range(2, 4), tmp_path)
    talk = Talk(tiny_models.checkpoint(family), placement)
    check_two_turns(family, talk)
    assert talk.inner.weights.by_device["disk"] > 0
    assert talk.inner.weights.by_device["ram"] > 0
    talk.backend.unload()
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("family", DISK_LAYERS)
def test_everything_on_disk_changes_no_token(family: str, tmp_path: Path) -> None:
    placement = on_disk(DISK_LAYERS[family], range(4), tmp_path, others=Tier.DISK)
    talk = Talk(tiny_models.checkpoint(family), placement)
    check_two_turns(family, talk)
    talk.backend.unload()


@pytest.mark.parametrize("family", FORGETFUL)
def test_asking_again_computes_only_what_follows_the_kept_state(family: str) -> None:
    talk = Talk(tiny_models.checkpoint(family))
    talk.ask(LONG_QUESTION)
    prompt = talk.inner.window.fit(talk.messages[:1], None)
    again = Said(
        list(talk.backend.generate(Generate(messages=tuple(talk.messages[:1]), sampling=GREEDY), never))
    )
    assert again.started.reused_tokens == prompt.settled > 0
    expected = generated(family, prompt.token_ids)
    assert replied(talk, prompt.token_ids, len(expected)) == expected[:-1]
    talk.backend.unload()


@pytest.mark.parametrize("family", [*FORGETFUL, "llama"])
def test_an_edited_history_is_answered_as_if_it_had_been_so_from_the_start(family: str) -> None:
    talk = Talk(tiny_models.checkpoint(family))
    talk.ask("Why is prefill faster than decode?")
    first_prompt = len(talk.prompt_ids())
    talk.ask(LONG_QUESTION)
    talk.messages[2:] = [ChatMessage(role=Role.USER, content="Another question, then?")]
    edited = talk.generate()
    assert 0 < edited.started.reused_tokens < len(talk.prompt_ids())
    assert family in FORGETFUL or edited.started.reused_tokens > first_prompt
    expected = generated(family, talk.prompt_ids())
    assert replied(talk, talk.prompt_ids(), len(expected)) == expected[:-1]
    talk.backend.unload()
