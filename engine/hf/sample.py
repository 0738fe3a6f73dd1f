"""SamplingParams to the next token: the order and the meaning of transformers' own processors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from engine.values import SamplingParams

KEPT_TOKENS = 1


class Candidates(NamedTuple):
    """The tokens that may come next.

    Attributes:
        token_ids: [n] int64; None stands for the whole vocabulary in order.
        probabilities: [n] float32, summing to one.
    """

    token_ids: torch.Tensor | None
    probabilities: torch.Tensor


class Sampler:
    """Chooses tokens for one reply. Call inside torch.inference_mode, on the engine thread."""

    def __init__(self, params: SamplingParams, context: Sequence[int], device: torch.device) -> None:
        """Start a reply.

        Args:
            params: with no None left but in max_new_tokens and seed.
            context: ids of the prompt; the repetition penalty counts them.
            device: where the logits lie.
        """
        self._params = params
        self._greedy = not params.temperature
        self._penalty = params.repetition_penalty or 1.0
        self._seen = torch.tensor(sorted(set(context)), dtype=torch.long, device=device)
        self._generator = torch.Generator(device=device)
        if params.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(params.seed)

    def choose(self, logits: torch.Tensor) -> int:
        """Return the next token id; this is the step's one wait for the device.

        Args:
            logits: [vocabulary], any float dtype; float32 is computed in.
        """
        scores = self._penalized(logits.float())
        token_id = _best(scores) if self._greedy else self._draw(scores)
        if self._penalty != 1.0:
            self._seen = torch.cat([self._seen, self._seen.new_tensor([token_id])])
        return token_id

    def candidates(self, logits: torch.Tensor) -> Candidates:
        """Return what may be drawn, and how likely, from logits [vocabulary] float32."""
        return self._candidates(self._penalized(logits))

    def _candidates(self, scores: torch.Tensor) -> Candidates:
        token_ids = None
        scores = scores / (self._params.temperature or 1.0)
        if top_k := self._params.top_k:
            scores, token_ids = scores.topk(min(top_k, scores.shape[-1]))
        if (top_p := self._params.top_p or 1.0) < 1.0:
            scores = _within_mass(scores, top_p)
        probabilities = scores.softmax(-1)
        if min_p := self._params.min_p:
            kept = probabilities >= min_p * probabilities.max()
            probabilities = torch.where(kept, probabilities, 0.0)
            probabilities = probabilities / probabilities.sum()
        return Candidates(token_ids, probabilities)

    def _draw(self, scores: torch.Tensor) -> int:
        token_ids, probabilities = self._candidates(scores)
        at = torch.multinomial(probabilities, 1, generator=self._generator)[0]
        return int(at if token_ids is None else token_ids[at])

    def _penalized(self, scores: torch.Tensor) -> torch.Tensor:
        """Divide what was seen by the penalty, or multiply where negative (arXiv 1909.05858)."""
        if self._penalty == 1.0:
            return scores
        seen = scores[self._seen]
        weakened = torch.where(seen < 0, seen * self._penalty, seen / self._penalty)
        return scores.scatter(0, self._seen, weakened)


def _best(scores: torch.Tensor) -> int:
    """Return the highest score's index; on the CPU through numpy, which takes a tenth of the time."""
    return int(scores.numpy().argmax() if scores.is_cpu else scores.argmax())


def _within_mass(scores: torch.Tensor, top_p: float) -> torch.Tensor:
    """Drop the tail beyond `top_p` of the probability; the best token always stays."""
    ascending, order = scores.sort()
    dropped = ascending.softmax(-1).cumsum(-1) <= 1.0 - top_p
    dropped[-KEPT_TOKENS:] = False
    return scores.masked_fill(dropped.scatter(0, order, dropped), float("-inf"))
