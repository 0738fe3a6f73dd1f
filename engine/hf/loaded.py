"""A loaded model with everything a turn needs of it."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from engine.hf.decode import Runner
from engine.hf.ledger import Weights, ledgers
from engine.hf.prompt import PromptWriter
from engine.hf.protocols import TextTokenizer
from engine.hf.template import PLAIN_STOPS
from engine.hf.window import Window
from engine.values import DeviceLedger, SamplingParams


@dataclass(frozen=True)
class LoadedModel:
    """What stays between turns.

    Attributes:
        tokenizer: of transformers.
        runner: the model and its KV cache.
        writer: renders conversations.
        window: fits them.
        ends: every id that ends a reply.
        sampling: the checkpoint's own choice, every None filled that can be.
        weights: bytes per device.
        tags_anywhere: a reasoning tag counts in the middle of an answer, too.
    """

    tokenizer: TextTokenizer
    runner: Runner
    writer: PromptWriter
    window: Window
    ends: frozenset[int]
    sampling: SamplingParams
    weights: Weights
    tags_anywhere: bool

    def ledgers(self) -> tuple[DeviceLedger, ...]:
        """Count what it holds on each device now."""
        return ledgers(self.weights, self.runner.kv.bytes_by_device())

    def sampling_for(self, asked: SamplingParams) -> SamplingParams:
        """Fill what was not asked for with the checkpoint's own, and the plain transcript's stops."""
        given = {name: value for name, value in msgspec.structs.asdict(asked).items() if value is not None}
        if not self.writer.template.exists:
            given["stop"] = (*asked.stop, *PLAIN_STOPS)
        return msgspec.structs.replace(self.sampling, **given)
