"""One token a step as one recorded graph: the GPU is told once, not by a thousand launches a token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.cache_utils import DynamicCache, DynamicLayer

from engine.hf import packed_attention
from engine.hf.protocols import CausalModel

FIRST_BUCKET = 512
WARM_UPS = 2
TOLERANCE = 0.1
"""Of the spread of the logits: more than rounding in another order, less than any real mistake."""

Step = Callable[[], torch.Tensor]
Capture = Callable[[Step], Step]


class Cursor:
    """Where the next token of a recorded step goes.

    Attributes:
        position: [1], on the device; what a recorded step reads.
        bucket: how many places of the cache it attends over; None while no step is recorded or run.
    """

    def __init__(self, device: torch.device) -> None:
        """Point at the first place."""
        self.position = torch.zeros(1, dtype=torch.long, device=device)
        self.bucket: int | None = None


class SteadyLayer(DynamicLayer):  # type: ignore[misc]  # transformers has no types
    """A layer of the KV cache that never moves: keys and values are views of a longer store."""

    def __init__(self, capacity: int, cursor: Cursor) -> None:
        """Allocate when the first keys tell the shape.

        Args:
            capacity: tokens of the store; beyond them the layer grows as transformers' own does.
            cursor: shared by all layers.
        """
        super().__init__()
        self._capacity = capacity
        self._cursor = cursor
        self._stores: tuple[torch.Tensor, ...] = ()

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: object, **_kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write new keys and values in place, and return what to attend over."""
        if not self._stores:
            self.lazy_initialization(key_states, value_states)
            self._stores = tuple(map(self._store, (key_states, value_states)))
        if self._cursor.bucket is not None:
            return self._write_at_cursor(key_states, value_states)
        end = self.get_seq_length() + key_states.shape[-2]
        if end > self._capacity:
            grown: tuple[torch.Tensor, torch.Tensor] = super().update(key_states, value_states)
            return grown
        for store, states in zip(self._stores, (key_states, value_states), strict=True):
            store[:, :, end - states.shape[-2] : end] = states
        self.settle(end)
        return self.keys, self.values

    def settle(self, length: int) -> None:
        """Say how many tokens recorded steps have left in the store."""
        self.keys, self.values = (store[:, :, :length] for store in self._stores)

    def _write_at_cursor(self, *states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = self._stores
        keys.index_copy_(2, self._cursor.position, states[0])
        values.index_copy_(2, self._cursor.position, states[1])
        return keys[:, :, : self._cursor.bucket], values[:, :, : self._cursor.bucket]

    def _store(self, states: torch.Tensor) -> torch.Tensor:
        """Return zeros: what is masked still is multiplied, and must be a number."""
        batch, heads, _, width = states.shape
        return states.new_zeros((batch, heads, self._capacity, width))


def steady_cache(config: object, capacity: int, cursor: Cursor) -> DynamicCache | None:
    """Return a cache whose steps can be recorded; None where some layer forgets."""
    cache = DynamicCache(config=config)
    if not cache.layers or any(type(layer) is not DynamicLayer for layer in cache.layers):
        return None
    cache.layers = [SteadyLayer(capacity, cursor) for _ in cache.layers]
    return cache


def capture_cuda(step: Step) -> Step:
    """Record what a step asks of the current GPU, and return what asks for all of it again."""
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(WARM_UPS):
            step()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = step()

    def replay() -> torch.Tensor:
        graph.replay()
        return logits

    return replay


class GraphedSteps:
    """Single-token forwards of one model, one recording per bucket of cache lengths; engine thread only.

    Between `step` and an eager forward, call `settle`.
    """

    def __init__(
        self, model: CausalModel, cache: DynamicCache, cursor: Cursor, capture: Capture = capture_cuda
    ) -> None:
        """Record nothing yet.

        Args:
            model: in eval mode, whole on one device, its attention "sdpa".
            cache: of `steady_cache`.
            cursor: of that cache.
            capture: records a step.
        """
        AttentionInterface.register(packed_attention.NAME, packed_attention.packed_attention)
        self._model = model
        self._cache = cache
        self._cursor = cursor
        self._capture = capture
        self._capacity: int = cache.layers[0]._capacity
        device = cursor.position.device
        self._token = torch.zeros((1, 1), dtype=torch.long, device=device)
        self._places = torch.arange(self._capacity, device=device)
        self._recorded: dict[int, Step] = {}

    @torch.inference_mode()
    def step(self, token_id: int, length: int) -> torch.Tensor:
        """Compute one token behind `length` others.

        Returns:
            its logits, [vocabulary]; the next step writes over them.
        """
        bucket = self._bucket(length + 1)
        self._token.fill_(token_id)
        self._cursor.position.fill_(length)
        if bucket not in self._recorded:
            self._recorded[bucket] = self._record(bucket)
        return self._recorded[bucket]()

    def settle(self, length: int) -> None:
        """Let eager forwards see the tokens that steps have added."""
        for layer in self._cache.layers:
            layer.settle(length)

    @torch.inference_mode()
    def disagreement(self, token_ids: Sequence[int]) -> str:
        """Compare one step with the eager forward, on an empty cache, which is empty again afterwards.

        Args:
            token_ids: at least two harmless ones.

        Returns:
            why steps must not be used; empty where they may.
        """
        *before, last = token_ids
        self._eager(before)
        expected = self._eager([last]).float().clone()
        self.settle(len(before))
        try:
            found = self.step(last, len(before)).float()
        except (RuntimeError, TypeError, ValueError) as error:
            return f"A step cannot be recorded: {str(error).partition(chr(10))[0]}"
        finally:
            self.settle(0)
        off = float((found - expected).abs().max() / expected.std())
        return "" if off <= TOLERANCE else f"Recorded steps are off by {off:.2f} of the spread of the logits."

    def _bucket(self, tokens: int) -> int:
        bucket = FIRST_BUCKET
        while bucket < tokens:
            bucket *= 2
        return min(bucket, self._capacity)

    def _record(self, bucket: int) -> Step:
        def step() -> torch.Tensor:
            return self._forward(bucket)

        return self._capture(step)

    def _forward(self, bucket: int) -> torch.Tensor:
        """Attend over a whole bucket; the mask hides what is not written yet."""
        config: Any = self._model.config
        usual = config._attn_implementation
        self._cursor.bucket = bucket
        config._attn_implementation = packed_attention.NAME
        try:
            output = self._model(
                input_ids=self._token,
                position_ids=self._cursor.position[None],
                attention_mask=(self._places[:bucket] <= self._cursor.position)[None, None, None],
                past_key_values=self._cache,
                use_cache=True,
            )
        finally:
            self._cursor.bucket = None
            config._attn_implementation = usual
        return output.logits[0, -1]

    def _eager(self, token_ids: Sequence[int]) -> torch.Tensor:
        ids = torch.tensor([token_ids], device=self._token.device)
        return self._model(input_ids=ids, past_key_values=self._cache, use_cache=True).logits[0, -1]
