"""Trains the guide from nothing but the text in this folder: `python -m engine.guide.train`.

A byte-level tokenizer, then a small Llama trained on random conversations drawn from the facts; the loss is
counted on the answers only. The weights are written in bfloat16.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from engine.guide import FOLDER
from engine.guide.corpus import Fact, Unknown, read_facts, read_unknown
from engine.guide.talks import AFTER, AGAIN, BEFORE, IN_OTHER, MORE, NO_MORE, SYSTEM, TalkMaker

if TYPE_CHECKING:
    from engine.hf.trainer import Encoder, Example

KINDS = ((1, 10), (1, None), (2, None), (4, None), (12, None))
"""Exchanges of a training talk, and tokens after which its answers are cut."""

Answer = Callable[[list[str]], list[str]]
"""Answers single questions."""


def _texts(facts: list[Fact], unknown: list[Unknown]) -> Iterator[str]:
    for fact in facts:
        yield from (*fact.ask, *(question.lower() for question in fact.ask), fact.answer, fact.more)
    for entry in unknown:
        yield from (*entry.ask, *entry.answers)
    for table in (MORE, AGAIN, IN_OTHER, BEFORE, AFTER):
        for phrases in table.values():
            yield from phrases
    yield from (*NO_MORE.values(), *SYSTEM)


def batches(maker: TalkMaker, encoder: Encoder, tokens: int) -> Iterator[list[Example]]:
    """Yield batches of about that many tokens: drills, whole exchanges, and talks of several turns.

    A drill is a question and the first words of its answer. They decide which answer it is; the rest is
    learned quickly, and would take most of the time.
    """
    sources = {exchanges: maker.talks(exchanges) for exchanges in (1, 2, 4, 12)}
    while True:
        exchanges, longest = maker.chance.choices(KINDS, weights=(14, 3, 2, 2, 1))[0]
        examples: list[Example] = []
        while sum(len(ids) for ids, _ in examples) < tokens:
            examples.append(encoder.encode(*next(sources[exchanges]), longest))
        yield examples


def held_out_shares(answer: Answer, facts: list[Fact], unknown: list[Unknown]) -> dict[str, float]:
    """Share of held-out phrasings whose answer holds the fact, and of off-topic ones that are declined."""
    shares = {}
    for entry in unknown:
        spoken = [fact for fact in facts if fact.language == entry.language]
        shares[f"{entry.language}_facts"] = _held_share(answer, spoken)
        declined = [text in entry.answers for text in answer(list(entry.held_out))]
        shares[f"{entry.language}_unknown"] = sum(declined) / len(declined)
    return shares


def _held_share(answer: Answer, facts: list[Fact]) -> float:
    asked = [(fact, question) for fact in facts for question in fact.held_out]
    said = answer([question for _, question in asked])
    return sum(fact.is_held_by(text) for (fact, _), text in zip(asked, said, strict=True)) / len(asked)


def main() -> None:
    """Train, measure on what was held out, and write the checkpoint."""
    from engine.hf import trainer

    options = _options()
    facts, unknown = read_facts(), read_unknown()
    if options.resume:
        model, tokenizer = trainer.resume(options.resume)
    else:
        tokenizer = trainer.make_tokenizer(_texts(facts, unknown))
        model = trainer.make_model(len(tokenizer), options.hidden, options.layers, options.seed)
    maker = TalkMaker(facts, unknown, random.Random(options.seed))
    print(f"{len(facts)} facts, {model.num_parameters():,} parameters", flush=True)
    course = trainer.Course(options.steps, options.rate, options.report)
    trainer.train(model, batches(maker, trainer.Encoder(tokenizer), options.tokens), course)
    shares = held_out_shares(partial(trainer.answers, model, tokenizer), facts, unknown)
    print(json.dumps(shares), flush=True)
    trainer.save(model, tokenizer, options.folder)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the checkpoint goes")
    parser.add_argument("--resume", type=Path, help="a checkpoint of an earlier run to go on from")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--tokens", type=int, default=2048, help="tokens per step, about")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--report", type=int, default=100)
    parser.add_argument("--seed", type=int, default=7)
    return parser.parse_args()


if __name__ == "__main__":
    main()
