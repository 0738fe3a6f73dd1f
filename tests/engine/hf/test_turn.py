"""Turns on a real model: ends, cancels, failures, windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from engine.commands import Generate
from engine.errors import NoModelLoaded
from engine.events import ContextFull, MemoryLedger, PrefillProgress, TextDelta, TurnFinished
from engine.hf import turn
from engine.hf.backend import HFBackend
from engine.hf.growing import SPARE_TOKENS, STEP_TOKENS
from engine.values import ChatMessage, FinishReason, Role, SamplingParams
from tests import tiny_models
from tests.engine.hf.talk import GREEDY, After, Talk, in_ram, never

LONG_QUESTION = 12 * "Why is prefill faster than decode? "


@pytest.fixture(params=["llama", "qwen3_next"])
def talk(request: pytest.FixtureRequest) -> Iterator[Talk]:
    talk = Talk(tiny_models.checkpoint(request.param))
    yield talk
    talk.backend.unload()


@pytest.fixture
def llama() -> Iterator[Talk]:
    talk = Talk(tiny_models.checkpoint("llama"))
    yield talk
    talk.backend.unload()


def with_changes(**changes: Any) -> SamplingParams:
    return msgspec.structs.replace(GREEDY, **changes)


def test_a_turn_tells_its_story_in_order(llama: Talk) -> None:
    said = llama.ask(LONG_QUESTION)
    kinds = [type(event).__name__ for event in said.events]
    assert kinds[0] == "TurnStarted"
    assert kinds[-1] == "TurnFinished"
    assert kinds.index("PrefillProgress") < kinds.index("MemoryLedger") < kinds.index("TextDelta")
    done = [event.done_tokens for event in said.of(PrefillProgress)]
    assert done == sorted(done)
    assert done[-1] == said.started.prompt_tokens
    assert len(done) > 1


def test_usage_counts_every_token_once(llama: Talk) -> None:
    llama.ask("Why is prefill faster than decode?")
    usage = llama.ask("And then?").finished.usage
    assert usage.prompt_tokens == len(llama.prompt_ids())
    assert 0 < usage.reused_tokens < usage.prompt_tokens
    assert usage.completion_tokens == 10
    assert usage.context_used == usage.prompt_tokens + 10
    assert usage.time_to_first_token > 0
    assert usage.decode_tps > 0
    assert usage.prefill_tps > 0
    assert usage.peak_ram_bytes > 50_000_000


def test_the_ledger_counts_weights_and_cache(llama: Talk) -> None:
    said = llama.ask("Why is prefill faster than decode?")
    last = said.of(MemoryLedger)[-1]
    ram = next(device for device in last.devices if device.device == "ram")
    weights = sum(p.nbytes for p in llama.inner.runner._model.parameters())
    layers, kv_heads, head_dim, bytes_each = 4, 2, 8, 4
    per_token = layers * 2 * kv_heads * head_dim * bytes_each
    spare = (STEP_TOKENS + SPARE_TOKENS) * per_token
    assert last.context_used == len(llama.cached)
    assert 0 <= ram.kv_bytes - len(llama.cached) * per_token <= spare
    assert weights <= ram.weight_bytes <= weights + 4096
    assert ram.other_bytes > 0


def test_long_replies_report_their_memory_now_and_then(llama: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn, "LEDGER_SECONDS", 0.0)
    said = llama.ask("Why?")
    assert len(said.of(MemoryLedger)) >= len(said.of(TextDelta))


def test_a_stop_string_ends_the_reply_and_is_not_part_of_it(talk: Talk) -> None:
    whole = talk.ask("Why is prefill faster?").text
    talk.messages.clear()
    for start in range(1, len(whole) - 2):
        stop = whole[start : start + 3]
        talk.messages[:] = [ChatMessage(role=Role.USER, content="Why is prefill faster?")]
        said = talk.generate(with_changes(stop=(stop,)))
        assert said.text == whole[: whole.find(stop)]
        assert said.finished.finish_reason is FinishReason.STOP


def test_every_end_token_of_the_checkpoint_ends_the_reply(tmp_path: Path) -> None:
    folder = tiny_models.make("llama", tmp_path)
    free = Talk(folder)
    free.ask("Why?")
    ids = free.cached[len(free.prompt_ids()) :]
    free.backend.unload()
    (folder / "generation_config.json").write_bytes(msgspec.json.encode({"eos_token_id": [1, ids[4]]}))
    ended = Talk(folder)
    assert ids[4] in ended.inner.ends
    assert tiny_models.make_tokenizer().eos_token_id in ended.inner.ends
    said = ended.ask("Why?")
    assert said.finished.finish_reason is FinishReason.STOP
    assert said.finished.usage.completion_tokens == ids.index(ids[4]) + 1
    ended.backend.unload()


def test_a_seed_gives_the_same_reply_again(llama: Talk) -> None:
    drawn = SamplingParams(temperature=1.5, max_new_tokens=20, seed=11)
    llama.messages = [ChatMessage(role=Role.USER, content="Why?")]
    first = llama.generate(drawn).text
    assert llama.generate(drawn).text == first
    assert llama.generate(msgspec.structs.replace(drawn, seed=12)).text != first


def test_cancelling_in_prefill_ends_the_turn_and_keeps_the_chunks_that_were_computed(talk: Talk) -> None:
    talk.inner.runner.pace.largest = talk.inner.runner.pace.chunk = 16
    said = talk.ask(LONG_QUESTION, cancelled=lambda: bool(talk.cached))
    assert said.finished.finish_reason is FinishReason.CANCELLED
    assert said.text == ""
    computed = len(talk.cached)
    assert 0 < computed < said.started.prompt_tokens
    talk.messages.pop()
    again = talk.generate()
    assert again.finished.finish_reason is FinishReason.LENGTH
    assert again.started.reused_tokens == computed


@pytest.mark.parametrize("questions", [1, 2, 3])
def test_cancelling_inside_a_chunk_leaves_a_cache_that_goes_on(talk: Talk, questions: int) -> None:
    talk.ask("Why?")
    kept = len(talk.cached)
    said = talk.ask(LONG_QUESTION, cancelled=After(questions))
    assert said.finished.finish_reason is FinishReason.CANCELLED
    assert len(talk.cached) <= kept
    talk.messages.pop()
    again = talk.generate()
    assert again.started.reused_tokens > 0
    talk.inner.runner.kv.drop()
    assert talk.generate().text == again.text


def test_cancelling_in_decode_keeps_the_text_and_the_next_turn_goes_on_from_it(talk: Talk) -> None:
    talk.ask(LONG_QUESTION)
    prompt = len(talk.prompt_ids())
    talk.messages.clear()
    talk.inner.runner.kv.drop()
    said = talk.ask(LONG_QUESTION, with_changes(max_new_tokens=100), lambda: len(talk.cached) >= prompt + 3)
    assert said.finished.finish_reason is FinishReason.CANCELLED
    assert 0 < said.finished.usage.completion_tokens < 10
    computed = len(talk.cached)
    following = talk.ask("And then?")
    assert following.finished.finish_reason is FinishReason.LENGTH
    assert following.started.reused_tokens == computed


def test_a_stopped_reply_goes_on_as_if_it_had_not_been_stopped(llama: Talk) -> None:
    llama.messages = [ChatMessage(role=Role.USER, content="Why is prefill faster?")]
    whole = llama.generate(with_changes(max_new_tokens=12)).text
    begun = llama.generate(with_changes(max_new_tokens=6)).text
    llama.messages.append(ChatMessage(role=Role.ASSISTANT, content=begun))
    rest = llama.generate(with_changes(max_new_tokens=6), continue_reply=True)
    assert begun + rest.text == whole


def test_the_end_of_the_window_is_an_event_of_its_own() -> None:
    talk = Talk(tiny_models.checkpoint("llama"), in_ram(context_window=64))
    said = talk.ask("Why?", SamplingParams(temperature=0.0))
    assert said.finished.finish_reason is FinishReason.LENGTH
    assert said.of(ContextFull) == [ContextFull(context_window=64)]
    assert said.finished.usage.context_used == 64
    talk.backend.unload()


def test_learned_positions_are_never_exceeded() -> None:
    talk = Talk(tiny_models.checkpoint("gpt2"), in_ram(context_window=100_000))
    assert talk.loaded.context_window == tiny_models.CONTEXT_WINDOW
    said = talk.ask("Why?", SamplingParams(temperature=0.0))
    assert said.of(ContextFull)
    assert said.finished.usage.context_used == tiny_models.CONTEXT_WINDOW
    talk.backend.unload()


def test_history_that_no_longer_fits_is_dropped_and_said_so() -> None:
    talk = Talk(tiny_models.checkpoint("llama"), in_ram(context_window=128))
    dropped = [talk.ask(f"Question {n}: why is prefill faster?").started.dropped_messages for n in range(5)]
    assert dropped[0] == 0
    assert dropped == sorted(dropped)
    assert dropped[-1] > 0
    talk.backend.unload()


FAILURES = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
]


def fail_at(talk: Talk, call: int, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the n-th forward fail in its last layer, when the first ones' cache has grown already.

    The model's own code computes every token then.
    """
    calls = iter(range(1000))
    monkeypatch.setattr(talk.inner.runner, "decoder", None)
    layer = talk.inner.runner._model.model.layers[-1]
    forward = layer.forward

    def failing(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == call:
            raise error
        return forward(*args, **kwargs)

    monkeypatch.setattr(layer, "forward", failing)


@pytest.mark.parametrize(
    ("call", "error"),
    [(5, error) for error in FAILURES] + [(call, FAILURES[0]) for call in (0, 1, 9)],
    ids=lambda value: str(value) if isinstance(value, int) else type(value).__name__,
)
def test_out_of_memory_keeps_the_text_names_remedies_and_the_next_turn_works(
    talk: Talk, call: int, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = talk.ask(LONG_QUESTION)
    talk.messages.clear()
    talk.inner.runner.kv.drop()
    with monkeypatch.context() as patch:
        fail_at(talk, call, error, patch)
        said = talk.ask(LONG_QUESTION)
    assert said.finished.finish_reason is FinishReason.FAILED
    assert "ran out" in said.finished.message
    assert "nf4" in said.finished.hint
    assert expected.text.startswith(said.text.rstrip("\ufffd"))
    assert talk.cached == []
    talk.messages.pop()
    assert talk.generate().text == expected.text


def test_a_generator_that_is_closed_midway_leaves_a_cache_that_works(llama: Talk) -> None:
    llama.messages = [ChatMessage(role=Role.USER, content="Why is prefill faster?")]
    expected = llama.generate().text
    events = llama.backend.generate(Generate(messages=tuple(llama.messages), sampling=GREEDY), never)
    for event in events:
        if isinstance(event, TextDelta):
            break
    events.close()  # type: ignore[attr-defined]  # it is a generator
    assert llama.generate().text == expected


def test_a_failure_that_nobody_names_is_still_a_sentence(
    llama: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_at(llama, 2, RuntimeError("shape '[1]' is invalid\nmore lines"), monkeypatch)
    said = llama.ask("Why?")
    assert said.finished.finish_reason is FinishReason.FAILED
    assert said.finished.message == "Generating failed: RuntimeError: shape '[1]' is invalid."


def test_without_a_model_there_is_nothing_to_generate_with() -> None:
    with pytest.raises(NoModelLoaded):
        next(HFBackend().generate(Generate(messages=()), never))


def scripted(talk: Talk, token_ids: list[int]) -> Callable[..., int]:
    """A `choose` that gives the ids in order."""
    ids = iter(token_ids)
    return lambda *_: next(ids)


def test_reasoning_comes_apart_from_the_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    talk = Talk(tiny_models.make("llama", tmp_path, reasoning=True))
    tokenizer = talk.inner.tokenizer
    script = tokenizer("<think>\nHm, why.\n</think>\n\nBecause 你好.<|im_end|>", add_special_tokens=False)[
        "input_ids"
    ]
    monkeypatch.setattr(talk.inner.runner, "choose", scripted(talk, script))
    said = talk.ask("Why?", with_changes(max_new_tokens=100))
    assert (said.reasoning, said.text) == ("Hm, why.", "Because 你好.")
    assert said.finished.finish_reason is FinishReason.STOP
    assert isinstance(said.events[-1], TurnFinished)
    talk.backend.unload()


def test_the_same_seed_gives_the_same_reply_and_another_one_another() -> None:
    talk = Talk(tiny_models.checkpoint("llama"))
    talk.messages.append(ChatMessage(role=Role.USER, content="Why?"))

    def replied(seed: int) -> str:
        return talk.generate(SamplingParams(temperature=1.5, max_new_tokens=24, seed=seed)).text

    assert replied(1) == replied(1)
    assert len({replied(seed) for seed in range(4)}) > 1
    talk.backend.unload()


def test_a_reply_asked_to_be_longer_than_the_window_ends_with_the_window() -> None:
    talk = Talk(tiny_models.checkpoint("llama"), in_ram(context_window=64))
    said = talk.ask("Why?", SamplingParams(temperature=0.0, max_new_tokens=5000))
    usage = said.finished.usage
    assert said.finished.finish_reason in {FinishReason.LENGTH, FinishReason.STOP}
    assert usage.context_used <= usage.context_window == 64
    talk.backend.unload()


def test_a_checkpoint_that_is_greedy_samples_as_transformers_would_when_it_is_asked_to(
    tmp_path: Path,
) -> None:
    folder = tiny_models.make("llama", tmp_path)
    (folder / "generation_config.json").write_text('{"do_sample": false}')
    talk = Talk(folder)
    assert talk.loaded.sampling.temperature == 0.0
    asked = talk.inner.sampling_for(SamplingParams(temperature=0.7))
    assert (asked.temperature, asked.top_k, asked.top_p) == (0.7, 50, 1.0)
    talk.backend.unload()
