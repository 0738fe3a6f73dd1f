"""The second turn of a long talk, and what an unload gives back: `python -m bench.turns [folder] [--quick]`.

P11, on a random-weight llama of 1B's shape. In each round a question behind a talk of 2,000 tokens, with
nothing kept (the peer); another question behind the same talk, whose tokens are kept then; and that question
alone in an empty cache (the limit). P15: the seconds until a model's RAM is given back, by an engine process,
which ends, and by a backend that lives on, for the next model; and what that one still holds. Prints a table,
then one JSON line.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from bench.client import ONE_TOKEN, Client, never
from bench.plan_run import prompt_of
from bench.plan_watch import resident
from bench.rows import Aim, Asked, Case, Rounds, Row, Sample, run
from bench.shapes import Shape, on_model
from engine.commands import Generate, LoadModel
from engine.events import TurnFinished, TurnStarted
from engine.hf.backend import HFBackend
from engine.hf.kv import common_prefix
from engine.values import ChatMessage, ModelRef, Placement, Role

TALK_TOKENS = 2000
WINDOW = 4096
ANSWER = "Each token of the prompt is computed at once, and each token of the reply by itself."
QUESTIONS = ("And now, what is it?", "So why is it kept?")
"""About as many tokens, by the tokenizer of random models, as 20 words have by a real one."""
AGAIN_TARGET, FASTER_TARGET = 1.3, 35.0
UNLOAD_SECONDS = 1.0
LEFT_BYTES = 64 << 20
LOOK_SECONDS = 0.005
PATIENCE_SECONDS = 10.0
MB = 1e6


class Turns(NamedTuple):
    """One round: seconds to the first token, and tokens.

    Attributes:
        whole: nothing was kept.
        again: the talk was kept.
        alone: only the question, without a talk.
        computed: tokens of the prompt that were not kept.
        new: of those, all that differ from the prompt before.
    """

    whole: float
    again: float
    alone: float
    computed: int
    new: int


class Talk:
    """A loaded model and a talk of TALK_TOKENS."""

    def __init__(self, folder: Path) -> None:
        """Load everything into RAM."""
        self.backend = HFBackend()
        model = ModelRef(name=folder.name, folder=folder)
        command = LoadModel(model=model, placement=Placement(context_window=WINDOW))
        self.backend.load(command, lambda _: None, never)
        if self.backend._loaded is None:
            raise SystemExit("The model did not load.")
        self._loaded = self.backend._loaded
        self._tokenizer: Any = self._loaded.tokenizer
        self._first = ChatMessage(role=Role.USER, content=prompt_of(self._tokenizer, TALK_TOKENS))
        self._answer = ChatMessage(role=Role.ASSISTANT, content=ANSWER)

    def behind(self, question: str) -> tuple[ChatMessage, ...]:
        """The talk and a question."""
        return (self._first, self._answer, ChatMessage(role=Role.USER, content=question))

    def first_token(self, messages: tuple[ChatMessage, ...]) -> tuple[float, int]:
        """Seconds of a turn of one token, and how many tokens of its prompt it computed."""
        computed, began = 0, time.perf_counter()
        command = Generate(turn_id=1, messages=messages, sampling=ONE_TOKEN)
        for event in self.backend.generate(command, never):
            if isinstance(event, TurnStarted):
                computed = event.prompt_tokens - event.reused_tokens
            if isinstance(event, TurnFinished) and event.error:
                raise SystemExit(event.message)
        return time.perf_counter() - began, computed

    def forget(self) -> None:
        """Keep nothing."""
        self._loaded.runner.kv.drop()

    def new_tokens(self) -> int:
        """How many tokens the second question's prompt adds to what it has in common with the first's."""
        first, second = (self._token_ids(self.behind(question)) for question in QUESTIONS)
        return len(second) - common_prefix(first, second)

    def round(self) -> Turns:
        """Measure the three turns."""
        first, second = QUESTIONS
        self.forget()
        whole, _ = self.first_token(self.behind(first))
        again, computed = self.first_token(self.behind(second))
        self.forget()
        alone, _ = self.first_token(self.behind(second)[-1:])
        return Turns(whole, again, alone, computed, self.new_tokens())

    def _token_ids(self, messages: tuple[ChatMessage, ...]) -> list[int]:
        said = [{"role": message.role.value, "content": message.content} for message in messages]
        token_ids: list[int] = self._tokenizer.apply_chat_template(
            said, add_generation_prompt=True, tokenize=True, return_dict=False
        )
        return token_ids


def turn_rows(folder: Path, rounds: Rounds) -> Iterator[Row]:
    """P11: the second turn beside its question alone, and beside everything anew."""
    talk = Talk(folder)
    talk.first_token(talk.behind(QUESTIONS[0])[-1:])
    measured = rounds.of(talk.round)
    aim = Aim("P11", "second turn, to the first token", "s", AGAIN_TARGET, "no reuse", FASTER_TARGET, True)
    yield aim.row(measured.each(lambda turns: Sample(turns.again, turns.alone, turns.whole)))
    aim = Aim("P11", "second turn, tokens computed", "tokens", 1.0, less_is_better=True)
    yield aim.row(measured.each(lambda turns: Sample(turns.computed, turns.new)))
    talk.backend.unload()


class Unload(NamedTuple):
    """Seconds until the memory is back, and bytes that are not."""

    seconds: float
    left: int = 0


def unload_rows(folder: Path, rounds: Rounds) -> Iterator[Row]:
    """P15: RAM is back where it was; for the backend, where it was once everything was imported."""
    measured = rounds.of(functools.partial(_process_unload, folder))
    aim = Aim("P15", "unload, the engine process ends", "s", 1.0, less_is_better=True)
    yield aim.row(measured.each(lambda unload: Sample(unload.seconds, UNLOAD_SECONDS)))
    _backend_unload(folder)
    measured = rounds.of(functools.partial(_backend_unload, folder))
    aim = Aim("P15", "unload, for another model", "s", 1.0, less_is_better=True)
    yield aim.row(measured.each(lambda unload: Sample(unload.seconds, UNLOAD_SECONDS)))
    aim = Aim("P15", "not given back", "MB", 1.0, less_is_better=True)
    yield aim.row(measured.each(lambda unload: Sample(unload.left / MB, LEFT_BYTES / MB)))


def _process_unload(folder: Path) -> Unload:
    client = Client()
    client.load(folder)
    client.answer(QUESTIONS[0])
    process, began = psutil.Process(client.pid), time.perf_counter()
    client.unload()
    while process.is_running() and time.perf_counter() - began < PATIENCE_SECONDS:
        time.sleep(LOOK_SECONDS)
    taken = time.perf_counter() - began
    client.close()
    return Unload(taken)


def _backend_unload(folder: Path) -> Unload:
    before = resident(os.getpid()).total
    talk = Talk(folder)
    talk.first_token(talk.behind(QUESTIONS[0]))
    backend = talk.backend
    del talk
    began = time.perf_counter()
    backend.unload()
    taken = time.perf_counter() - began
    return Unload(taken, max(0, resident(os.getpid()).total - before))


def cases(asked: Asked) -> Iterator[Case]:
    """Both."""
    yield Case("P11:turn", on_model(asked, Shape.ONE_B, turn_rows))
    yield Case("P15:unload", on_model(asked, Shape.ONE_B, unload_rows))


if __name__ == "__main__":
    run("turns", __doc__, cases)
