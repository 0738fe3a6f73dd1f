"""Prefill in chunks, then one token a step: forwards through the model, and what is known of its speed."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch

from engine.hf.heap import Heap, layers_of
from engine.hf.kv import KVCache
from engine.hf.protocols import CausalModel
from engine.hf.sample import Sampler
from engine.hf.threads import settle_threads
from engine.hf.ways import (
    SLOW_STEP_SECONDS,
    TIMED_SECONDS,
    Sample,
    StepDecoder,
    TryWays,
    cancelling,
    least_seconds,
)

CHUNK_SECONDS = 0.12
"""Between two moments at which a prompt under way can be left."""
MOST_CHUNK_SECONDS = 4.0
"""Between two reports on how much of a prompt is done."""
CHUNK_SIZES = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
SMALLEST_CHUNK = CHUNK_SIZES[0]
FIRST_CHUNK, FIRST_WATCHED_CHUNK = 64, 128
LARGEST_CHUNK = CHUNK_SIZES[-1]
STEPS_PER_LOOK = 16
UNSHARED_STEP_SECONDS = 0.03
"""A longer step is not mostly waiting: every thread is worth having, also for prompts."""


class Interrupted(Exception):  # noqa: N818 -- no error: the person stopped a forward
    """A forward was left between two layers."""


class Runner:
    """One model and its KV cache, fed token ids; engine thread only.

    Only `forward(input_ids, position_ids, past_key_values, use_cache, logits_to_keep)` is built on,
    and of those only what the class accepts.
    """

    def __init__(self, model: CausalModel, device: torch.device) -> None:
        """Take a loaded model.

        Args:
            model: a causal language model in eval mode.
            device: where its input ids go.
        """
        self._model = model
        self._device = device
        accepted = inspect.signature(model.forward).parameters
        self._takes_positions = "position_ids" in accepted
        self._cache_name = "past_key_values" if "past_key_values" in accepted else "cache_params"
        self._constant: dict[str, Any] = {"use_cache": True}
        if "logits_to_keep" in accepted:
            self._constant["logits_to_keep"] = 1
        self._position_row = torch.arange(LARGEST_CHUNK, device=device).unsqueeze(0)
        self._heap = Heap(layers_of(model) if device.type == "cpu" else ())
        self.kv = KVCache(model.config, in_place=device.type != "meta")
        self.pace = ChunkPace()
        self.continues = True
        self._is_long = False
        self.decoder: StepDecoder | None = None
        self.cancelled: Callable[[], bool] = lambda: False

    @torch.inference_mode()
    def feed(self, token_ids: Sequence[int]) -> torch.Tensor:
        """Compute tokens behind those in the cache.

        Args:
            token_ids: at least one.

        Returns:
            logits of the last one, [vocabulary], on the model's last device.
        """
        return self._fed(token_ids, rows=1)[-1]

    @torch.inference_mode()
    def feed_all(self, token_ids: Sequence[int]) -> torch.Tensor:
        """Do the same, and return the logits of each token, [tokens, vocabulary]."""
        return self._fed(token_ids, rows=len(token_ids))

    @property
    def can_guess(self) -> bool:
        """Tokens can be computed on trial: the cache can be cropped, and each forward waits for its end."""
        return self._device.type == "cpu" and self.continues and not self.kv.forgets

    def _fed(self, token_ids: Sequence[int], rows: int) -> torch.Tensor:
        done = len(self.kv.token_ids)
        if done % STEPS_PER_LOOK == 0:
            self._heap.settle()
        if self.decoder is not None and len(token_ids) <= self.decoder.most_tokens:
            return self._decoded(self.decoder, token_ids)
        return self._computed(token_ids, self._positions(done, done + len(token_ids)), rows)

    def _computed(self, token_ids: Sequence[int], position_ids: torch.Tensor, rows: int = 1) -> torch.Tensor:
        """Compute tokens by the model's own code; logits of the last `rows` of them at least."""
        arguments = {**self._constant, self._cache_name: self.kv.cache}
        if rows > 1 and "logits_to_keep" in arguments:
            arguments["logits_to_keep"] = rows
        if self._takes_positions:
            arguments["position_ids"] = position_ids
        input_ids = torch.tensor([token_ids], device=self._device)
        self.kv.begin()
        self._is_long = len(token_ids) >= SMALLEST_CHUNK
        logits: torch.Tensor = self._model(input_ids=input_ids, **arguments).logits
        self.kv.extend(token_ids)
        return logits[0]

    def _decoded(self, decoder: StepDecoder, token_ids: Sequence[int]) -> torch.Tensor:
        """Compute tokens in one call, which leaves the cache as it was where it is cancelled."""
        with cancelling(decoder.cancel, self.cancelled) if self.pace.is_slow else nullcontext():
            logits = decoder.feed(token_ids, self.kv.cache.layers)
        if logits is None:
            raise Interrupted
        self.kv.extend(token_ids)
        return logits

    def _positions(self, start: int, end: int) -> torch.Tensor:
        """Return position ids [1, end - start]: a view of a row that is made once and grows by doubling."""
        if end > self._position_row.shape[1]:
            self._position_row = torch.arange(2 * end, device=self._device).unsqueeze(0)
        return self._position_row[:, start:end]

    def prefill_chunk(self, token_ids: Sequence[int]) -> torch.Tensor:
        """Compute one chunk, wait for it, and learn the model's pace from it."""
        started = time.perf_counter()
        with self._heap.settling():
            logits = self.feed(token_ids)
            _wait_for(logits)
        self.pace.learn(len(token_ids), time.perf_counter() - started)
        return logits

    def chunk_size(self, left: int) -> int:
        """Return how many of `left` prompt tokens to compute at once.

        A model whose recurrent layers do not go on from a state in chunks gets its prompt whole
        where the cache is empty, and token by token behind it.
        """
        if self.continues:
            return min(left, self.pace.chunk)
        return 1 if self.kv.token_ids else left

    @torch.inference_mode()
    def choose(self, sampler: Sampler, logits: torch.Tensor) -> int:
        """Return the next token; the one wait for the device in a step."""
        return sampler.choose(logits)

    def warm_up(self, token_ids: Sequence[int], try_ways: TryWays | None = None) -> torch.Tensor:
        """Run short forwards: reads what is still on the disk and measures one token's time.

        Args:
            token_ids: eight harmless ones.
            try_ways: looks for a faster way to compute single tokens.

        Returns:
            the last logits; not finite where the weights are damaged.
        """
        own = self._sampled(token_ids)
        seconds = own.seconds
        if try_ways is not None:
            self.decoder = try_ways(own, self._sampled)
            seconds = least_seconds(lambda: _wait_for(self.feed(token_ids[:1])))
        self._settle(seconds, token_ids)
        if self.kv.forgets:
            self.continues = self._goes_on_in_chunks(token_ids, own.prompt_logits)
        self.kv.drop()
        return own.prompt_logits

    def warm_up_as_before(
        self, token_ids: Sequence[int], decoder: StepDecoder, seconds: float, *, continues: bool
    ) -> torch.Tensor:
        """Do the same for weights of which all this was found out before: compute one token.

        Args:
            token_ids: harmless ones, of which the first is computed.
            decoder: found to compute what the model's own code does.
            seconds: one token's time.
            continues: the model goes on from a state in chunks.
        """
        self.decoder, self.continues = decoder, continues
        self.kv.drop()
        logits = self.feed(token_ids[:1])
        if seconds > SLOW_STEP_SECONDS:  # unless the machine was busy then
            seconds = min(seconds, least_seconds(lambda: self.feed(token_ids[:1])))
        self._settle(seconds, token_ids)
        self.kv.drop()
        return logits

    def _settle(self, seconds: float, token_ids: Sequence[int]) -> None:
        """Choose by one token's time how prompts are cut, where a cancel is noticed, and how many threads."""
        self.pace.note_step(seconds)
        if self.pace.is_slow or self._device.type == "cpu":
            self._watch_layers()
        if self._device.type == "cpu" and seconds < UNSHARED_STEP_SECONDS:
            settle_threads(lambda: self.feed(token_ids[:1]))

    @torch.inference_mode()
    def _sampled(self, token_ids: Sequence[int]) -> Sample:
        """Compute a prompt and one token behind it, as far away as the model allows, and take the time."""
        self.kv.drop()
        with self._heap.settling():
            prompt_logits = self.feed(token_ids)
            _wait_for(prompt_logits)
        position = getattr(self._model.config, "max_position_embeddings", 0) - 1
        position = position if self._takes_positions and position > len(token_ids) else len(token_ids)
        started = time.perf_counter()
        step_logits = self._computed(token_ids[:1], torch.tensor([[position]], device=self._device))[-1]
        _wait_for(step_logits)
        seconds = time.perf_counter() - started
        if seconds < TIMED_SECONDS:
            seconds = least_seconds(lambda: _wait_for(self.feed(token_ids[:1])))
        return Sample(token_ids, prompt_logits, step_logits, position, seconds)

    def _watch_layers(self) -> None:
        """Notice a cancel between two layers of a prompt's chunk, and of a step that is slow."""
        layers = layers_of(self._model)
        for layer in layers:
            layer.register_forward_pre_hook(self._notice_cancel)
        self.pace.looks_at(len(layers))

    def _notice_cancel(self, *_: object) -> None:
        if (self._is_long or self.pace.is_slow) and self.cancelled():
            raise Interrupted

    def _goes_on_in_chunks(self, token_ids: Sequence[int], whole: torch.Tensor) -> bool:
        """Compare a prompt computed in two chunks with the same one computed whole."""
        self.kv.drop()
        half = len(token_ids) // 2
        self.feed(token_ids[:half])
        parts = self.feed(token_ids[half:])
        spread = float(whole.float().std())
        return bool((parts.float() - whole.float()).abs().max() <= 0.1 * spread)


def _wait_for(logits: torch.Tensor) -> None:
    """Wait until a forward is computed; the device of its logits is the last one that it needs."""
    if logits.is_cuda:
        torch.cuda.synchronize(logits.device)


class ChunkPace:
    """Chooses prefill chunks from what the ones before took: CHUNK_SECONDS between two looks at a cancel.

    Where a single token is slow already (weights that come from the disk each time), small chunks
    would only multiply that time: the largest is taken.
    """

    def __init__(self) -> None:
        """Begin carefully."""
        self.step_seconds = 0.0
        self.chunk = FIRST_CHUNK
        self.largest = LARGEST_CHUNK
        self.seconds = CHUNK_SECONDS

    def looks_at(self, layers: int) -> None:
        """Say that a cancel is noticed before each of so many layers, so that chunks can be larger."""
        self.seconds = max(CHUNK_SECONDS, min(layers * CHUNK_SECONDS, MOST_CHUNK_SECONDS))
        self.chunk = max(self.chunk, min(self.largest, FIRST_WATCHED_CHUNK))

    @property
    def is_slow(self) -> bool:
        """A single token takes long enough to be noticed."""
        return self.step_seconds > SLOW_STEP_SECONDS

    def note_step(self, seconds: float) -> None:
        """Take note of what one token alone costs."""
        self.step_seconds = seconds
        if self.is_slow:
            self.chunk = self.largest

    def learn(self, tokens: int, seconds: float) -> None:
        """Take note of one chunk.

        Args:
            tokens: in the chunk.
            seconds: it took.
        """
        if not self.is_slow and tokens >= SMALLEST_CHUNK:
            per_token = max(seconds - self.step_seconds, 1e-9) / tokens
            fitting = (self.seconds - self.step_seconds) / per_token
            self.chunk = _rounded(min(self.largest, 2 * self.chunk, fitting))


def _rounded(tokens: float) -> int:
    """Return the largest usual chunk of no more tokens: for every other size, oneDNN would keep kernels."""
    return max((size for size in CHUNK_SIZES if size <= tokens), default=SMALLEST_CHUNK)
