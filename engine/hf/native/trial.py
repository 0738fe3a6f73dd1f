"""Choose how a model in RAM computes single tokens: a whole step in one call, single layers, or its own code.

Whatever is chosen has computed the same logits as the model's own code, and was not slower.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from transformers.cache_utils import DynamicCache

from engine.hf.growing_cache import grow_in_place
from engine.hf.native.build import Missing
from engine.hf.native.chunks import ChunkAttention
from engine.hf.native.decoder import NativeDecoder
from engine.hf.native.layers import Untranslatable
from engine.hf.native.library import Foreign, Kernels
from engine.hf.native.linears import NativeAttention, NativeLinears, use_attention, use_own_attention
from engine.hf.native.matrix import has_quantized
from engine.hf.native.products import use_products
from engine.hf.packed_attention import single_step_attention
from engine.hf.ways import TIMED_SECONDS, Sample, least_seconds

Compute = Callable[[Sequence[int]], Sample]
MOST_SAMPLES = 3
EXACT, ROUNDED = 1e-3, 0.1
"""Of the spread of the logits: more than sums in another order differ by, less than any real mistake."""
MOST_TIMES = 1.0
"""As long as by the model's own code may a token take."""
LAYERS = "This architecture's tokens are computed layer by layer, not by one call of vramble's kernels."
TORCH = "This model's tokens are computed by torch: vramble's kernels were no faster with it."


class Trial:
    """Tries the ways from the fastest on, and leaves the model with the first that serves it.

    Attributes:
        notes: what the person should know about the outcome.
    """

    def __init__(self, model: Foreign, kernels: Kernels | Missing) -> None:
        """Take a model.

        Args:
            model: in eval mode, its weights in RAM.
            kernels: to compute with, or why there are none.
        """
        self._model = model
        self._kernels = kernels
        self.notes: tuple[str, ...] = ()

    @property
    def kernels(self) -> Kernels | None:
        """What it computes with; None where there are none."""
        return None if isinstance(self._kernels, Missing) else self._kernels

    @torch.inference_mode()
    def __call__(self, own: Sample, compute: Compute) -> NativeDecoder | None:
        """Return what computes whole steps, or None where the model does, changed for the better or not.

        Args:
            own: what the model's own code computed.
            compute: lets the model compute such a sample, as it is then.
        """

        def again() -> Sample:
            return compute(own.token_ids)

        if isinstance(self._kernels, Missing):
            _pack_attention(self._model, own, again)
            self.notes = (self._kernels.value,) if self._kernels else ()
            return None
        decoder = translated(self._model, self._kernels, own, compute)
        if decoder is None:
            self.notes = (LAYERS if _use_layers(self._model, self._kernels, own, again) else TORCH,)
        else:
            use_attention(self._model, ChunkAttention(self._kernels))
        use_products(self._model, self._kernels)
        return decoder

    def as_before(self, *, interleaved: bool) -> NativeDecoder | None:
        """Return what served this very checkpoint before, without comparing; None where it cannot be had."""
        if self.kernels is None:
            return None
        try:
            decoder = NativeDecoder(self._model, self.kernels, interleaved=interleaved)
        except (Untranslatable, AttributeError, TypeError):
            return None
        use_attention(self._model, ChunkAttention(self.kernels))
        use_products(self._model, self.kernels)
        return decoder


@torch.inference_mode()
def translated(
    model: Foreign, kernels: Kernels, own: Sample, compute: Compute | None = None
) -> NativeDecoder | None:
    """Return a decoder whose logits agree with the model's own and that is not slower, or None.

    Args:
        model: in eval mode, its weights in RAM.
        kernels: to compute with.
        own: what the model's own code computed.
        compute: lets the model compute more samples, where one alone may mislead.
    """
    samples = [own]
    for interleaved in (False, True):
        try:
            decoder = NativeDecoder(model, kernels, interleaved=interleaved)
        except (Untranslatable, AttributeError, TypeError):
            return None
        for number in range(_samples_needed(model) if compute else 1):
            if number == len(samples) and compute:
                samples.append(compute(_turned(own.token_ids, number)))
            ours = _decoded(decoder, model, samples[number])
            if ours is not None and _alike(model, ours, samples[number]):
                return decoder if _is_worth_it(ours, own) else None
    return None


def _samples_needed(model: Foreign) -> int:
    """More than one where rounding can send a token to another expert: then all that follows differs."""
    has_experts = any(hasattr(module, "experts") for module in model.modules())
    return MOST_SAMPLES if has_experts else 1


def _turned(token_ids: Sequence[int], count: int) -> Sequence[int]:
    return [*token_ids[count:], *token_ids[:count]]


def _decoded(decoder: NativeDecoder, model: Foreign, own: Sample) -> Sample | None:
    """Let a decoder compute what the model did; None where the cache is not of its kind."""
    cache = DynamicCache(config=model.config)
    grow_in_place(cache)
    prompt = decoder.feed(own.token_ids, cache.layers)
    started = time.perf_counter()
    step = decoder.feed(own.token_ids[:1], cache.layers, own.step_position)
    seconds = time.perf_counter() - started
    if prompt is None or step is None or not decoder.suits(cache.layers):
        return None
    if seconds < TIMED_SECONDS:
        seconds = least_seconds(lambda: decoder.feed(own.token_ids[:1], cache.layers))
    return own._replace(prompt_logits=prompt[-1], step_logits=step[-1], seconds=seconds)


def _use_layers(model: Foreign, kernels: Kernels, own: Sample, again: Callable[[], Sample]) -> bool:
    """Give the model our linear layers and attention, and take them away where they do not serve it."""
    linears = NativeLinears(model, kernels)
    use_attention(model, NativeAttention(kernels))
    ours = again()
    if _alike(model, ours, own) and _is_worth_it(ours, own):
        return True
    linears.undo()
    use_own_attention(model)
    _pack_attention(model, own, again)
    return False


def _pack_attention(model: Foreign, own: Sample, again: Callable[[], Sample]) -> None:
    """Let query heads that share keys and values attend as one, where the model's logits stay the same."""
    if use_attention(model, single_step_attention) and not _alike(model, again(), own):
        use_own_attention(model)


def _is_worth_it(ours: Sample, own: Sample) -> bool:
    """Whether a token takes no longer than by the model's own code."""
    return ours.seconds <= MOST_TIMES * own.seconds


def _alike(model: Foreign, ours: Sample, own: Sample) -> bool:
    rounds = own.step_logits.dtype != torch.float32 or has_quantized(model)
    pairs = ((ours.prompt_logits, own.prompt_logits), (ours.step_logits, own.step_logits))
    return all(_error(mine, theirs) <= (ROUNDED if rounds else EXACT) for mine, theirs in pairs)


def _error(ours: torch.Tensor, own: torch.Tensor) -> float:
    """Return how far logits are from the model's own, as a part of their spread."""
    return float((ours.float() - own.float()).square().mean().sqrt() / own.float().std())
