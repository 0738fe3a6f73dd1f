"""Choose how a model on the CPU decodes: the whole step in one call, single layers, or its own code."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn
from transformers.cache_utils import DynamicCache

from engine.hf.native.decoder import NativeDecoder
from engine.hf.growing import grow_in_place
from engine.hf.native.layers import Untranslatable
from engine.hf.native.library import FORMATS, Foreign, Kernels, kernels
from engine.hf.native.linears import NativeLinear
from engine.hf.native.matrix import matrix_of

TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.1}
PROMPT_TOKENS = 6
TIMED_RUNS = 3


def trusted_kernels(folder: Path) -> Kernels | None:
    """Return the kernels where they build and agree with torch on shapes that nothing divides.

    Args:
        folder: where builds are kept.
    """
    found = kernels(folder)
    return found if found is not None and all(_multiplies(found, dtype) for dtype in FORMATS) else None


@torch.inference_mode()
def _multiplies(found: Kernels, dtype: torch.dtype) -> bool:
    layer = nn.Linear(83, 37).to(dtype)
    x = torch.linspace(-1, 1, 3 * 83).view(3, 83).to(dtype)
    matrix = matrix_of(layer, found)
    if matrix is None:
        return False
    ours, own = NativeLinear(layer, matrix, found)(x), layer(x)
    return bool((ours - own).float().abs().max() <= 0.02 * own.float().std())


def fresh_cache(model: Foreign) -> DynamicCache:
    """Return an empty cache that grows in place."""
    cache = DynamicCache(config=model.config)
    grow_in_place(cache)
    return cache


@torch.inference_mode()
def translated(model: Foreign, kernels: Kernels, token_ids: Sequence[int]) -> NativeDecoder | None:
    """Return a decoder whose logits agree with the model's own and that is not slower, or None.

    Args:
        model: in eval mode, its weights in RAM.
        kernels: to compute with.
        token_ids: at least eight harmless ones.
    """
    for interleaved in (False, True):
        try:
            decoder = NativeDecoder(model, kernels, interleaved=interleaved)
            if _agrees(decoder, model, token_ids):
                return decoder if _is_worth_it(decoder, model, token_ids) else None
        except (Untranslatable, AttributeError, TypeError):
            return None
    return None


def _agrees(decoder: NativeDecoder, model: Foreign, token_ids: Sequence[int]) -> bool:
    """Compare logits of one token, and of two together, behind a prompt that the model itself computed."""
    prompt, one, rest = (
        token_ids[:PROMPT_TOKENS],
        token_ids[PROMPT_TOKENS : PROMPT_TOKENS + 1],
        token_ids[-2:],
    )
    own, ours = fresh_cache(model), fresh_cache(model)
    for cache in (own, ours):
        _forward(model, prompt, cache)
    return all(_alike(decoder.feed(ids, ours.layers)[-1], _forward(model, ids, own)) for ids in (one, rest))


def _forward(model: Foreign, token_ids: Sequence[int], cache: DynamicCache) -> torch.Tensor:
    logits: torch.Tensor = model(
        torch.tensor([list(token_ids)]), past_key_values=cache, use_cache=True
    ).logits
    return logits[0, -1]


def _alike(ours: torch.Tensor, own: torch.Tensor) -> bool:
    error = (ours.float() - own.float()).square().mean().sqrt()
    return bool(error <= TOLERANCE.get(own.dtype, 0.0) * own.float().std())


def _is_worth_it(decoder: NativeDecoder, model: Foreign, token_ids: Sequence[int]) -> bool:
    own, ours = fresh_cache(model), fresh_cache(model)
    one = token_ids[:1]
    seconds = _least_seconds(lambda: decoder.feed(one, ours.layers))
    return seconds <= _least_seconds(lambda: _forward(model, one, own))


def _least_seconds(run: Callable[[], object]) -> float:
    taken = []
    for _ in range(TIMED_RUNS):
        started = time.perf_counter()
        run()
        taken.append(time.perf_counter() - started)
    return min(taken)
