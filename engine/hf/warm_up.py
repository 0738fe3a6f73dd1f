"""The first tokens of a loaded model show whether its weights are sound, and how it is computed best."""

from __future__ import annotations

import math

import torch

from engine.checkpoint import Verdict
from engine.errors import DamagedCheckpoint
from engine.hf.decode import Runner
from engine.hf.native.before import Way, keep_way, name_of, way_before
from engine.hf.native.decoder import NativeDecoder
from engine.hf.native.trial import Trial
from engine.hf.protocols import TextTokenizer
from engine.values import Quantization

TOKENS = 8
ABSURD_LOGIT = 1e9
"""Far beyond what any model computes, and what weights with a flipped exponent bit do."""


def warm_up(
    runner: Runner,
    tokenizer: TextTokenizer,
    trial: Trial | None,
    verdict: Verdict,
    quantization: Quantization,
) -> None:
    """Compute a few tokens, and leave the runner with the fastest way that computes them rightly.

    Args:
        runner: of the model.
        tokenizer: names tokens that exist.
        trial: of faster ways; None where the model's own is the only one.
        verdict: of its folder.
        quantization: of its weights.

    Raises:
        DamagedCheckpoint: no model's weights give such numbers.
    """
    _require_sound(_computed(runner, tokenizer, trial, verdict, quantization))


def _computed(
    runner: Runner,
    tokenizer: TextTokenizer,
    trial: Trial | None,
    verdict: Verdict,
    quantization: Quantization,
) -> torch.Tensor:
    """Return the logits of a few tokens, computed as was found best before, or by trial."""
    known = known_ids(tokenizer)
    name = name_of(verdict, quantization, trial.kernels) if trial and trial.kernels else None
    before = way_before(name) if name else None
    decoder = trial.as_before(interleaved=before.interleaved) if trial and before else None
    if before and decoder:
        return runner.warm_up_as_before(known, decoder, before.seconds, continues=before.continues)
    logits = runner.warm_up(known, trial)
    if name and isinstance(runner.decoder, NativeDecoder):
        keep_way(name, Way(runner.decoder.interleaved, runner.pace.step_seconds, runner.continues))
    return logits


def known_ids(tokenizer: TextTokenizer) -> list[int]:
    """Return TOKENS ids that exist; all are asked for only where the first ones do not: there are many."""
    first = list(range(1, TOKENS + 1))
    if getattr(tokenizer, "is_fast", False) and None not in tokenizer.convert_ids_to_tokens(first):
        return first
    return [token_id for token_id in sorted(set(tokenizer.get_vocab().values())) if token_id][:TOKENS]


def _require_sound(logits: torch.Tensor) -> None:
    """Raise DamagedCheckpoint where no model's weights give such numbers."""
    worst, best = (float(figure) for figure in logits.float().aminmax())
    if math.isnan(best):
        raise DamagedCheckpoint("The weights compute no numbers (NaN).", "Download the model again.")
    if abs(best) > ABSURD_LOGIT:
        raise DamagedCheckpoint(
            f"The weights compute absurd numbers ({best:.0e}).", "Download the model again."
        )
    if best == worst and logits.shape[-1] > 1:
        message = "The weights compute the same for every token: some of them are empty."
        raise DamagedCheckpoint(message, "Download the model again.")
