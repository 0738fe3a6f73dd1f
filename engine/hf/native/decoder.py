"""Compute the next token of a model whose layers lie in RAM in one call of the kernels."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from engine.hf.growing import GrowingLayer, GrowingWindowLayer, Shape
from engine.hf.native.layers import Heads, LayerWriter, Rotary, State, Untranslatable
from engine.hf.native.library import FORMATS, Foreign, Kernels, Kind
from engine.hf.native.matrix import matrix_of
from engine.hf.native.program import Program, splits_for

FIRST_POSITIONS = 4096
CPU = torch.device("cpu")
POSITION_DEPENDENT = {"dynamic", "longrope"}


class NativeDecoder:
    """One model translated into a program; the weights are the model's own, in place.

    Raises (all methods that say so):
        Untranslatable: this model, or its cache, needs its own code.
    """

    def __init__(self, model: Foreign, kernels: Kernels, *, interleaved: bool = False) -> None:
        """Look at a model.

        Args:
            model: a causal language model on the CPU.
            kernels: to compute with.
            interleaved: its rotary pairs are neighbours.

        Raises:
            Untranslatable: it has a module that no operation exists for.
        """
        self._kernels = kernels
        self._interleaved = interleaved
        self._base = model.get_decoder()
        self._head = model.get_output_embeddings()
        self._dtype: torch.dtype = self._base.embed_tokens.weight.dtype
        if self._dtype not in FORMATS or self._head is None:
            raise Untranslatable("no embeddings")
        self._softcap = getattr(model.config, "final_logit_softcapping", None)
        self._config = model.config
        self._positions = FIRST_POSITIONS
        self._cache: object = None
        self._threads = 0

    @torch.inference_mode()
    def feed(self, token_ids: Sequence[int], layers: Sequence[GrowingLayer]) -> torch.Tensor:
        """Compute tokens behind those in the cache.

        Args:
            token_ids: 1 to 8.
            layers: of the cache, one per decoder layer; they grow by these tokens.

        Returns:
            logits [tokens, vocabulary], fp32.

        Raises:
            Untranslatable: the cache is not one of ours.
            RuntimeError: it was cancelled; the cache is as it was.
        """
        tokens, position = len(token_ids), layers[0].get_seq_length()
        self._bind(layers, position + tokens)
        for layer, shape in zip(layers, self._shapes, strict=True):
            layer.reserve(shape, tokens)
        logits = torch.empty(tokens, self._vocabulary)
        self._program[len(self._program) - 1].output = logits.data_ptr()
        if not self._kernels.run(self._program, token_ids, position):
            raise RuntimeError("cancelled")
        for layer in layers:
            layer.advance(tokens)
        return logits if self._softcap is None else self._softcap * torch.tanh(logits / self._softcap)

    def _bind(self, layers: Sequence[GrowingLayer], end: int) -> None:
        """Write the program again where the cache is another, or longer than foreseen."""
        if self._cache is layers[0] and end <= self._positions and self._threads == torch.get_num_threads():
            return
        while end > self._positions:
            self._positions *= 2
        self._threads = torch.get_num_threads()
        self._write(layers)
        self._cache = layers[0]

    def _write(self, layers: Sequence[GrowingLayer]) -> None:
        if not all(isinstance(layer, GrowingLayer) and layer.suits(self._dtype) for layer in layers):
            raise Untranslatable("a cache of another kind")
        self._writer = Program(self._dtype)
        width = self._base.embed_tokens.weight.shape[1]
        state = State(*(self._writer.buffer(width) for _ in range(3)))
        self._embed(state)
        self._shapes = []
        writer = LayerWriter(self._writer, state, self._kernels)
        for decoder_layer, cache_layer in zip(self._base.layers, layers, strict=True):
            heads = self._heads_of(decoder_layer.self_attn, cache_layer)
            self._shapes.append(Shape(1, heads.keys, heads.width, heads.value_width, self._dtype, CPU))
            writer.write(decoder_layer, heads, self._rotary(decoder_layer), cache_layer.native)
        self._finish(state)
        self._program = self._writer.finished()

    def _embed(self, state: State) -> None:
        table = self._base.embed_tokens
        scale = float(table.embed_scale.to(self._dtype)) if hasattr(table, "embed_scale") else 1.0
        self._writer.add(
            Kind.EMBED, format=FORMATS[self._dtype], columns=table.weight.shape[1], scale=scale,
            weights=table.weight.detach(), output=state.hidden,
        )  # fmt: skip

    def _finish(self, state: State) -> None:
        head = matrix_of(self._head, self._kernels)
        if head is None:
            raise Untranslatable("the output layer")
        self._vocabulary = head.rows
        self._writer.norm(self._base.norm, state.hidden, state.normed)
        self._writer.linear(head, state.normed, torch.empty(0))

    def _heads_of(self, attention: Foreign, cache_layer: GrowingLayer) -> Heads:
        config = self._config
        queries, keys, width = config.num_attention_heads, config.num_key_value_heads, attention.head_dim
        window = cache_layer.sliding_window if isinstance(cache_layer, GrowingWindowLayer) else 0
        return Heads(queries, keys, width, width, splits_for(keys), window)

    def _rotary(self, layer: Foreign) -> Rotary:
        """Return the table that the model's own rotary module gives, as far as is foreseen."""
        rotary: Foreign = self._base.rotary_emb
        kind = getattr(layer.self_attn, "layer_type", None)
        named = hasattr(rotary, f"{kind}_inv_freq")
        if (rotary.rope_type[kind] if named else rotary.rope_type) in POSITION_DEPENDENT:
            raise Untranslatable("rotary positions that depend on the length")
        ids = torch.arange(self._positions).unsqueeze(0)
        sample = torch.empty(0, dtype=self._dtype)
        cosines, sines = rotary(sample, ids, kind) if named else rotary(sample, ids)
        half = cosines.shape[-1] // 2
        tables = [table[0, :, :half].float().contiguous() for table in (cosines, sines)]
        return Rotary(tables[0], tables[1], self._interleaved)
