"""SamplingParams to the next token: the order and the meaning of transformers' own processors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch

from engine.errors import DamagedCheckpoint
from engine.values import SamplingParams

KEPT_TOKENS = 1
SPARE_TOKENS = 1024
BEST_TOKENS = 4096
"""A nucleus lies among so many of the best almost always; to find them takes a twentieth of sorting all."""
ROUNDING = 1e-5


class Candidates(NamedTuple):
    """The tokens that may come next.

    Attributes:
        token_ids: [n] int64; None stands for the whole vocabulary in order.
        probabilities: [n] float32, summing to one.
    """

    token_ids: torch.Tensor | None
    probabilities: torch.Tensor


class Seen:
    """Distinct tokens, each added in constant time."""

    def __init__(self, token_ids: Iterable[int], device: torch.device) -> None:
        """Begin with the tokens of a prompt, on the device where the logits lie."""
        self._known = set(token_ids)
        self._buffer = torch.zeros(max(SPARE_TOKENS, 2 * len(self._known)), dtype=torch.long, device=device)
        self._buffer[: len(self._known)] = torch.tensor(sorted(self._known), dtype=torch.long)

    @property
    def token_ids(self) -> torch.Tensor:
        """[n] int64, a view."""
        return self._buffer[: len(self._known)]

    def add(self, token_id: int) -> None:
        """Take note of one more."""
        if token_id in self._known:
            return
        if len(self._known) == len(self._buffer):
            self._buffer = torch.cat([self._buffer, torch.zeros_like(self._buffer)])
        self._buffer[len(self._known)] = token_id
        self._known.add(token_id)


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
        self._seen = Seen(context if self._penalty != 1.0 else (), device)
        self._generator = torch.Generator(device=device)
        if params.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(params.seed)

    def choose(self, logits: torch.Tensor) -> int:
        """Return the next token id; this is the step's one wait for the device.

        Args:
            logits: [vocabulary], any float dtype; float32 is computed in.

        Raises:
            DamagedCheckpoint: the logits are no numbers.
        """
        scores = self._penalized(logits.float())
        token_id = _best(scores) if self._greedy else self._draw(scores)
        if self._penalty != 1.0:
            self._seen.add(token_id)
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
            best = _best_within_mass(scores, top_p) if token_ids is None else None
            scores, token_ids = best or (_within_mass(scores, top_p), token_ids)
        probabilities = scores.softmax(-1)
        if min_p := self._params.min_p:
            kept = probabilities >= min_p * probabilities.max()
            probabilities = torch.where(kept, probabilities, 0.0)
            probabilities = probabilities / probabilities.sum()
        return Candidates(token_ids, probabilities)

    def _draw(self, scores: torch.Tensor) -> int:
        """Draw by the cumulative distribution: in a tenth of multinomial's time, and NaN kills no GPU."""
        token_ids, probabilities = self._candidates(scores)
        mass = probabilities.double().cumsum(-1)
        drawn = torch.rand(1, dtype=mass.dtype, device=mass.device, generator=self._generator)
        at = torch.searchsorted(mass, drawn * mass[-1], right=True).clamp_(max=len(mass) - 1)
        token_id = at if token_ids is None else token_ids[at]
        return _checked(token_id[0], mass[-1])

    def _penalized(self, scores: torch.Tensor) -> torch.Tensor:
        """Divide what was seen by the penalty, or multiply where negative (arXiv 1909.05858)."""
        if self._penalty == 1.0:
            return scores
        token_ids = self._seen.token_ids
        seen = scores[token_ids]
        weakened = torch.where(seen < 0, seen * self._penalty, seen / self._penalty)
        return scores.scatter(0, token_ids, weakened)


def _best(scores: torch.Tensor) -> int:
    """Return the highest score's index; on the CPU through numpy, which takes a tenth of the time."""
    if scores.is_cpu:
        at = int(scores.numpy().argmax())
        return _checked(at, scores[at])
    best, at_best = scores.max(-1)
    return _checked(at_best, best)


def _checked(token_id: torch.Tensor | int, witness: torch.Tensor) -> int:
    """Return a token id, unless a figure that any NaN or infinity would have reached is one; one wait."""
    if isinstance(token_id, torch.Tensor):
        found, figure = torch.stack([token_id.double(), witness.double()]).tolist()
    else:
        found, figure = token_id, float(witness)
    if not math.isfinite(figure):
        kind = "no numbers (NaN)" if math.isnan(figure) else "no numbers (infinite ones)"
        raise DamagedCheckpoint(f"The model computed {kind}.", "Download it again, or try another dtype.")
    return int(found)


def _best_within_mass(scores: torch.Tensor, top_p: float) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return scores and ids of the best tokens with the tail beyond `top_p` dropped.

    None where they do not hold that mass, or where sorting all is quick: on a GPU, or with few tokens.
    """
    if not scores.is_cpu or scores.shape[-1] < 2 * BEST_TOKENS:
        return None
    best, token_ids = scores.topk(BEST_TOKENS)
    probabilities = (best - scores.logsumexp(-1)).double().exp()
    reached = probabilities.cumsum(-1)
    if not reached[-1] > top_p + ROUNDING:
        return None
    dropped = reached - probabilities >= top_p
    dropped[:KEPT_TOKENS] = False
    return best.masked_fill(dropped, float("-inf")), token_ids


def _within_mass(scores: torch.Tensor, top_p: float) -> torch.Tensor:
    """Drop the tail beyond `top_p` of the probability; the best token always stays."""
    ascending, order = scores.sort()
    dropped = ascending.softmax(-1).cumsum(-1) <= 1.0 - top_p
    dropped[-KEPT_TOKENS:] = False
    return scores.masked_fill(dropped.scatter(0, order, dropped), float("-inf"))
