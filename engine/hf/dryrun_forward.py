"""Forwards of a model on no device: what its caches keep, what prefill holds, what a step dispatches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import msgspec
import torch

from engine.blueprints import ActivationPeak, CacheGrowth
from engine.checkpoint import ModelConfig
from engine.hf.decode import LARGEST_CHUNK, Runner
from engine.hf.dryrun_cache import (
    cache_bytes,
    cache_growths,
    cache_tensors,
    compact,
    growth_bytes,
    stretch,
    stretches,
)
from engine.hf.dryrun_layers import enough_layers, kinds_of, shortened
from engine.hf.dryrun_tally import NoDevice, Tally, Work, address
from engine.hf.protocols import CausalModel

META = torch.device("meta")
SAMPLING_BYTES = 16
"""Per word of the vocabulary, while a token is chosen: float32 logits, sorted, their order, probabilities."""
_FEW = 8
_FARTHEST = 32768
"""Tokens; from half of it on, all that is held grows evenly, so longer prompts need not be followed."""
_MOST_OPS = 4000


class Seen(NamedTuple):
    """What forwards show.

    Attributes:
        caches: one per layer that keeps something.
        peaks: ascending.
        step_ops: operations of one decode step.
        step_convolutions: among them.
        step_bytes: of large tensors beside weights that they read and write.
        prompt_bytes: likewise, of a prompt of a few tokens.
    """

    caches: tuple[CacheGrowth, ...] = ()
    peaks: tuple[ActivationPeak, ...] = ()
    step_ops: int = 0
    step_convolutions: int = 0
    step_bytes: int = 0
    prompt_bytes: int = 0


def rehearse(model: CausalModel, layers: torch.nn.ModuleList, config: ModelConfig, seconds: float) -> Seen:
    """Follow forwards through as few layers as show every kind, and say what all of them do.

    Args:
        model: on the meta device, in eval mode.
        layers: its main list.
        config: of the model.
        seconds: until UnsupportedModel is raised.
    """
    runner = Runner(model, META)
    kinds = kinds_of(layers, runner.kv.cache.layers)
    with NoDevice(seconds), shortened(layers, max(2, enough_layers(kinds))):
        return Rehearsal(runner, list(model.parameters()), layers, kinds).seen(config)


class Rehearsal:
    """One model whose forwards are followed, through the first layers of each kind."""

    def __init__(
        self,
        runner: Runner,
        weights: Sequence[torch.Tensor],
        layers: torch.nn.ModuleList,
        kinds: Sequence[Hashable],
    ) -> None:
        """Take a model.

        Args:
            runner: of it.
            weights: what is not counted as held.
            layers: those that it still has.
            kinds: of all the layers that it had.
        """
        self._runner = runner
        self._weights = weights
        self._layers = layers
        alike = {kind: index for index, kind in enumerate(kinds[: len(layers)])}
        self._alike = [alike[kind] for kind in kinds]
        self._missing = Counter(self._alike[len(layers) :])
        self._growths: list[CacheGrowth] = []

    def seen(self, config: ModelConfig) -> Seen:
        """Return what the whole model does."""
        window = config.context_window
        self._growths = cache_growths(self._runner, len(self._layers), window)
        chunk = min(LARGEST_CHUNK, window) if self._continues() else 0
        peaks = [self._peak(length, chunk or length) for length in self._lengths(window, chunk)]
        if peaks[-1].context_tokens < window:
            peaks.append(_farther(peaks[-2], peaks[-1], window))
        rising = _rising(peaks, config.vocab_size * SAMPLING_BYTES)
        return Seen(self._caches(), rising, *self._step())

    def _lengths(self, context_window: int, chunk: int) -> list[int]:
        """Return the lengths between which everything grows evenly, at most.

        Args:
            context_window: tokens; the last length lies there, or as far as following is worth it.
            chunk: tokens computed at once; 0 where prompts are computed whole.
        """
        shortest = min(LARGEST_CHUNK, context_window)
        can_stretch = chunk and all(map(stretches, self._runner.kv.cache.layers, self._growths))
        farthest = context_window if can_stretch else min(context_window, self._reach())
        bounds = {growth.longest_tokens + chunk for growth in self._growths if growth.longest_tokens}
        lengths = {farthest // 2, farthest, *bounds, *_powers(shortest, farthest)}
        return sorted(length for length in lengths if shortest <= length <= farthest)

    def _reach(self) -> int:
        """Return how long a prompt is worth following: classes that loop over tokens take their time."""
        counts = [self._prompt_ops(tokens) for tokens in (LARGEST_CHUNK // 2, LARGEST_CHUNK)]
        per_chunk = 2 * (counts[1] - counts[0])
        affordable = _MOST_OPS * LARGEST_CHUNK // per_chunk if per_chunk else _FARTHEST
        return min(_FARTHEST, max(2 * LARGEST_CHUNK, affordable))

    def _prompt_ops(self, tokens: int) -> int:
        self._runner.kv.drop()
        with Tally(self._weights) as tally:
            self._runner.feed([0] * tokens)
        return int(tally.work.ops)

    def _caches(self) -> tuple[CacheGrowth, ...]:
        known = [(index, alike) for index, alike in enumerate(self._alike) if alike < len(self._growths)]
        found = (msgspec.structs.replace(self._growths[alike], layer=index) for index, alike in known)
        return tuple(growth for growth in found if growth.bytes_per_token or growth.constant_bytes)

    def _continues(self) -> bool:
        """Say whether a chunk behind others reads every state that they left."""
        stateful = [growth.layer for growth in self._growths if growth.constant_bytes]
        if not stateful:
            return True
        self._runner.kv.drop()
        self._runner.feed([0] * _FEW)
        with Tally(self._weights) as tally:
            kept = (self._runner.kv.cache.layers[index] for index in stateful)
            tally.unread = {address(tensor) for layer in kept for tensor in cache_tensors(layer)}
            self._runner.feed([0] * _FEW)
        return not tally.unread

    def _peak(self, length: int, chunk: int) -> ActivationPeak:
        """Follow the last chunk of a prompt."""
        before = length - chunk
        logits = self._prefill(before, chunk)
        tally = Tally(self._weights)
        layers = self._runner.kv.cache.layers
        tally.adopt((*logits, *(tensor for layer in layers for tensor in cache_tensors(layer))))
        tally.credit = sum(growth_bytes(growth, before) for growth in self._growths)
        early = self._surplus(before)
        with self._crediting(tally, before, length), tally:
            self._runner.feed([0] * chunk)
        surplus = self._uncounted(early, self._surplus(length))
        return ActivationPeak(
            chunk_tokens=chunk,
            context_tokens=length,
            bytes=tally.peak + surplus,
            gpu_bytes=tally.gpu_peak + surplus,
        )

    def _prefill(self, tokens: int, chunk: int) -> list[torch.Tensor]:
        """Fill the cache as chunks would have left it, and return the last one's logits, which stay alive.

        What has been appended to a bounded cache lies in a larger storage until the next chunk.
        """
        self._runner.kv.drop()
        is_bounded = any(growth.longest_tokens for growth in self._growths)
        filled = max(0, tokens - chunk) if is_bounded else tokens
        logits = []
        if filled:
            logits = [self._runner.feed([0] * min(filled, chunk))]
            self._lengthen(filled)
        if tokens > filled:
            logits = [self._runner.feed([0] * (tokens - filled))]
        return logits

    @torch.inference_mode()
    def _lengthen(self, tokens: int) -> None:
        """Make the cache hold more tokens, not computed where keys and values are all that grows."""
        kv = self._runner.kv
        if all(map(stretches, kv.cache.layers, self._growths)):
            stretch(kv, self._growths, tokens)
        elif tokens > len(kv.token_ids):
            self._runner.feed([0] * (tokens - len(kv.token_ids)))
            compact(kv.cache.layers)

    @contextmanager
    def _crediting(self, tally: Tally, before: int, length: int) -> Iterator[None]:
        """Count what a layer has appended to its cache as cache as soon as the layer is done."""

        def credit(index: int) -> None:
            growth = self._growths[index]
            tally.credit += growth_bytes(growth, length) - growth_bytes(growth, before)

        with ExitStack() as hooks:
            for index in range(len(self._growths)):
                hook = self._layers[index].register_forward_hook(lambda *_, index=index: credit(index))
                hooks.callback(hook.remove)
            yield

    def _surplus(self, length: int) -> list[int]:
        """Return what each cache holds beyond its rule."""
        pairs = zip(self._runner.kv.cache.layers, self._growths, strict=False)
        return [max(0, cache_bytes(layer) - growth_bytes(growth, length)) for layer, growth in pairs]

    def _uncounted(self, before: Sequence[int], after: Sequence[int]) -> int:
        """Return the surplus of layers left out, and what the others may have gained too late to be seen."""
        gained = sum(max(0, late - early) for early, late in zip(before, after, strict=False))
        return gained + sum(
            count * after[index] for index, count in self._missing.items() if index < len(after)
        )

    def _step(self) -> tuple[int, int, int, int]:
        """Count what one decode step does, and the bytes of the few tokens before it."""
        self._runner.kv.drop()
        prompt = self._counted(_FEW)
        return *self._counted(1), prompt.bytes

    def _counted(self, tokens: int) -> Work:
        """Count the work of some tokens; layers left out do what their like do."""
        tally = Tally(self._weights, follows_bytes=True)
        before, by_layer = Work(), dict.fromkeys(range(len(self._layers)), Work())

        def start(*_: object) -> None:
            nonlocal before
            before = tally.work

        def end(index: int) -> None:
            by_layer[index] = tally.work.plus(before, -1)

        with ExitStack() as hooks:
            for index, layer in enumerate(self._layers):
                hooks.callback(layer.register_forward_pre_hook(start).remove)
                ended = layer.register_forward_hook(lambda *_, index=index: end(index))
                hooks.callback(ended.remove)
            with tally:
                self._runner.feed([0] * tokens)
        whole = tally.work
        for index, count in self._missing.items():
            whole = whole.plus(by_layer.get(index, Work()), count)
        return whole


def _powers(shortest: int, farthest: int) -> Iterator[int]:
    """Yield lengths, each twice or four times as long as the one before."""
    yield shortest
    length = 2 * shortest
    while length < farthest:
        yield length
        length *= 4


def _farther(left: ActivationPeak, right: ActivationPeak, length: int) -> ActivationPeak:
    """Return the peak at a length beyond two others, on their line."""
    span = right.context_tokens - left.context_tokens
    steps = (length - right.context_tokens) / span
    return ActivationPeak(
        chunk_tokens=right.chunk_tokens,
        context_tokens=length,
        bytes=right.bytes + round(steps * (right.bytes - left.bytes)),
        gpu_bytes=right.gpu_bytes + round(steps * (right.gpu_bytes - left.gpu_bytes)),
    )


def _rising(peaks: Sequence[ActivationPeak], floor: int) -> tuple[ActivationPeak, ...]:
    """Return peaks of which none is under an earlier one, for its chunks come first, nor under a floor."""
    size = gpu_size = floor
    risen = []
    for peak in peaks:
        size, gpu_size = max(size, peak.bytes), max(gpu_size, peak.gpu_bytes)
        risen.append(msgspec.structs.replace(peak, bytes=size, gpu_bytes=gpu_size))
    return tuple(risen)
