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
from engine.hf.dryrun_cache import cache_bytes, cache_growths, cache_tensors, compact, fill, growth_bytes
from engine.hf.dryrun_layers import enough_layers, kinds_of, shortened
from engine.hf.dryrun_tally import NoDevice, Tally, address
from engine.hf.protocols import CausalModel

META = torch.device("meta")
SAMPLING_BYTES = 16
"""Per word of the vocabulary, while a token is chosen: float32 logits, sorted, their order, probabilities."""
_FEW = 8
_FARTHEST = 32768
"""Tokens; from half of it on, all that is held grows evenly, so longer prompts need not be followed."""
_WHOLE_STEP = 4


class Seen(NamedTuple):
    """What forwards show.

    Attributes:
        caches: one per layer that keeps something.
        peaks: ascending.
        step_ops: operations of one decode step.
    """

    caches: tuple[CacheGrowth, ...] = ()
    peaks: tuple[ActivationPeak, ...] = ()
    step_ops: int = 0


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
        self._growths = cache_growths(self._runner, len(self._layers), config.context_window)
        if self._continues():
            peaks = self._chunked_peaks(config.context_window)
        else:
            peaks = self._whole_peaks(config.context_window)
        floor = config.vocab_size * SAMPLING_BYTES
        return Seen(self._caches(), _rising(peaks, floor), self._step_ops())

    def _caches(self) -> tuple[CacheGrowth, ...]:
        known = [(index, alike) for index, alike in enumerate(self._alike) if alike < len(self._growths)]
        found = (msgspec.structs.replace(self._growths[alike], layer=index) for index, alike in known)
        return tuple(growth for growth in found if growth.bytes_per_token or growth.constant_bytes)

    def _continues(self) -> bool:
        """Say whether a chunk behind others reads every state that they left."""
        stateful = [g.layer for g in self._growths if g.constant_bytes]
        self._runner.kv.drop()
        self._runner.feed([0] * _FEW)
        with Tally(self._weights) as tally:
            kept = (self._runner.kv.cache.layers[index] for index in stateful)
            tally.unread = {address(tensor) for layer in kept for tensor in cache_tensors(layer)}
            self._runner.feed([0] * _FEW)
        return not tally.unread

    def _chunked_peaks(self, context_window: int) -> list[ActivationPeak]:
        """Return the peaks at lengths between which everything grows evenly."""
        shortest = min(LARGEST_CHUNK, context_window)
        farthest = min(context_window, _FARTHEST)
        bounds = {growth.longest_tokens + LARGEST_CHUNK for growth in self._growths if growth.longest_tokens}
        lengths = {2 * LARGEST_CHUNK, *bounds, _FARTHEST // 2, farthest}
        peaks = [
            self._peak(length, shortest) for length in sorted({shortest, *lengths}) if length <= farthest
        ]
        if context_window > farthest:
            peaks.append(_farther(peaks[-2], peaks[-1], context_window))
        return peaks

    def _whole_peaks(self, context_window: int) -> list[ActivationPeak]:
        """Return the peaks of prompts that are computed at once."""
        lengths = [context_window]
        while lengths[-1] > LARGEST_CHUNK:
            lengths.append(max(LARGEST_CHUNK, lengths[-1] // _WHOLE_STEP))
        return [self._peak(length, length) for length in reversed(lengths)]

    def _peak(self, length: int, chunk: int) -> ActivationPeak:
        """Follow the last chunk of a prompt."""
        before = length - chunk
        logits = self._prefill(before, chunk)
        tally = Tally(self._weights)
        layers = self._runner.kv.cache.layers
        tally.adopt((*logits, *(tensor for layer in layers for tensor in cache_tensors(layer))))
        tally.credit = sum(growth_bytes(growth, before) for growth in self._growths)
        with self._crediting(tally, before, length), tally:
            self._runner.feed([0] * chunk)
        surplus = self._surplus(length)
        return ActivationPeak(
            chunk_tokens=chunk,
            context_tokens=length,
            bytes=tally.peak + surplus,
            gpu_bytes=tally.gpu_peak + surplus,
        )

    def _prefill(self, tokens: int, chunk: int) -> list[torch.Tensor]:
        """Fill the cache as chunks would have left it, and return the last one's logits, which stay alive."""
        self._runner.kv.drop()
        if tokens > chunk:
            self._runner.feed([0] * (tokens - chunk))
            with torch.inference_mode():
                compact(self._runner.kv.cache.layers)
        return [self._runner.feed([0] * min(tokens, chunk))] if tokens else []

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

    def _surplus(self, length: int) -> int:
        """Return what the caches of the layers left out would hold beyond their rules."""
        held = self._runner.kv.cache.layers
        return sum(
            count * max(0, cache_bytes(held[index]) - growth_bytes(self._growths[index], length))
            for index, count in self._missing.items()
            if index < len(self._growths)
        )

    def _step_ops(self) -> int:
        """Count one decode step's operations, those of the layers left out as of their like."""
        fill(self._runner, _FEW)
        tally = Tally(self._weights)
        by_layer: dict[int, int] = {}
        with ExitStack() as hooks:
            for index, layer in enumerate(self._layers):
                started = layer.register_forward_pre_hook(
                    lambda *_, index=index: by_layer.update({index: -tally.ops})
                )
                ended = layer.register_forward_hook(
                    lambda *_, index=index: by_layer.update({index: by_layer[index] + tally.ops})
                )
                hooks.callback(started.remove)
                hooks.callback(ended.remove)
            with tally:
                self._runner.feed([0])
        return tally.ops + sum(count * by_layer.get(index, 0) for index, count in self._missing.items())


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
