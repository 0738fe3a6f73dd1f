"""Compute the next token of a model whose layers lie in RAM in one call of the kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard

import torch
from transformers.cache_utils import DynamicCache

from engine.hf.growing import GrowingLayer, GrowingWindowLayer, Reserved, Shape
from engine.hf.growing_cache import grow_in_place
from engine.hf.native.layers import Heads, LayerWriter, State, Untranslatable
from engine.hf.native.library import FORMATS, MAX_TOKENS, Foreign, Kernels, Kind, Room
from engine.hf.native.matrix import matrix_of
from engine.hf.native.program import Program, splits_for
from engine.hf.native.rotary import RotaryTables

CPU = torch.device("cpu")


class NativeDecoder:
    """One model translated into a program; the weights are the model's own, in place.

    It keeps nothing of a conversation: each call is given the layers of its cache.

    Attributes:
        interleaved: rotary pairs are neighbours.
    """

    most_tokens = MAX_TOKENS

    def __init__(self, model: Foreign, kernels: Kernels, *, interleaved: bool = False) -> None:
        """Translate a model.

        Args:
            model: a causal language model on the CPU.
            kernels: to compute with.
            interleaved: its rotary pairs are neighbours.

        Raises:
            Untranslatable: it has a module that no operation exists for, or a cache of another kind.
        """
        self._kernels = kernels
        self.interleaved = interleaved
        self._base = model.get_decoder()
        self._config = model.config
        self._dtype: torch.dtype = self._base.embed_tokens.weight.dtype
        if self._dtype not in FORMATS:
            raise Untranslatable("embeddings of another type")
        self._softcap = getattr(model.config, "final_logit_softcapping", None)
        self._rotary = RotaryTables(self._base.rotary_emb, self._dtype, interleaved=interleaved)
        self._rooms: list[Room] = []
        self._shapes: list[Shape] = []
        self._writer = Program(self._dtype)
        self._write(model.get_output_embeddings())
        self._program = self._writer.finished()

    @torch.inference_mode()
    def feed(
        self, token_ids: Sequence[int], layers: Sequence[GrowingLayer], position: int | None = None
    ) -> torch.Tensor | None:
        """Compute tokens behind those in the cache.

        Args:
            token_ids: 1 to `most_tokens`.
            layers: of the cache, for which `suits` holds; they grow by these tokens.
            position: of the first of them; None for the one behind the cache's last.

        Returns:
            logits [tokens, vocabulary], fp32; None when it was cancelled: the cache is as it was.
        """
        tokens = len(token_ids)
        position = layers[0].get_seq_length() if position is None else position
        for layer, shape, room in zip(layers, self._shapes, self._rooms, strict=True):
            _point(room, layer.reserve(shape, tokens))
        logits = torch.empty(tokens, self._vocabulary)
        self._program[len(self._program) - 1].output = logits.data_ptr()
        if not self._kernels.run(self._program, token_ids, self._rotary.row(position, tokens)):
            return None
        for layer in layers:
            layer.advance(tokens)
        return logits if self._softcap is None else self._softcap * torch.tanh(logits / self._softcap)

    def suits(self, layers: Sequence[object]) -> bool:
        """Whether a cache that the model itself has filled can be gone on with."""
        return len(layers) == len(self._rooms) and all(
            _is_plain(layer) and layer.dtype == self._dtype for layer in layers
        )

    def cancel(self, *, wanted: bool = True) -> None:
        """Stop a step under way, or (wanted=False) allow steps again; any thread may call this."""
        self._kernels.cancel(wanted=wanted)

    def _write(self, head: Foreign) -> None:
        width = self._base.embed_tokens.weight.shape[1]
        state = State(*(self._writer.buffer(part, width) for part in ("hidden", "normed", "part")))
        self._embed(state)
        writer = LayerWriter(self._writer, state, self._kernels)
        layers = _cache_layers(self._config, len(self._base.layers))
        for decoder_layer, cache_layer in zip(self._base.layers, layers, strict=True):
            heads, room = self._heads_of(decoder_layer.self_attn, cache_layer), Room()
            rotary = self._rotary.of(getattr(decoder_layer.self_attn, "layer_type", None))
            writer.write(decoder_layer, heads, rotary, room)
            self._rooms.append(room)
            self._shapes.append(Shape(1, heads.keys, heads.width, heads.value_width, self._dtype, CPU))
        self._finish(head, state)

    def _embed(self, state: State) -> None:
        table = self._base.embed_tokens
        scale = float(table.embed_scale.to(self._dtype)) if hasattr(table, "embed_scale") else 1.0
        self._writer.add(
            Kind.EMBED, format=FORMATS[self._dtype], columns=table.weight.shape[1], scale=scale,
            weights=table.weight.detach(), output=state.hidden,
        )  # fmt: skip

    def _finish(self, head: Foreign, state: State) -> None:
        matrix = matrix_of(head, self._kernels)
        if matrix is None:
            raise Untranslatable("the output layer")
        self._vocabulary = matrix.rows
        self._writer.norm(self._base.norm, state.hidden, state.normed)
        self._writer.linear(matrix, state.normed, torch.empty(0))

    def _heads_of(self, attention: Foreign, cache_layer: GrowingLayer) -> Heads:
        config = self._config
        queries, keys, width = config.num_attention_heads, config.num_key_value_heads, attention.head_dim
        window = cache_layer.sliding_window if isinstance(cache_layer, GrowingWindowLayer) else 0
        return Heads(queries, keys, width, width, splits_for(keys), window)


def _cache_layers(config: object, count: int) -> list[GrowingLayer]:
    """Return the layers of a fresh cache; raises Untranslatable where some would not grow in place."""
    cache = DynamicCache(config=config)
    grow_in_place(cache)
    layers = [layer for layer in cache.layers if _is_plain(layer)]
    if len(layers) != len(cache.layers) or len(layers) != count:
        raise Untranslatable("a cache of another kind")
    return layers


def _is_plain(layer: object) -> TypeGuard[GrowingLayer]:
    """Keys and values are all that it holds: classes built on these two hold more."""
    return type(layer) in {GrowingLayer, GrowingWindowLayer}


def _point(room: Room, reserved: Reserved) -> None:
    """Say where a layer's tokens lie now."""
    keys, values, start, length = reserved
    room.keys = keys.data_ptr() + start * keys.shape[3] * keys.element_size()
    room.values = values.data_ptr() + start * values.shape[3] * values.element_size()
    # Rows of heads lie a whole room apart, from wherever the first token is.
    room.capacity, room.length = keys.shape[2], length
