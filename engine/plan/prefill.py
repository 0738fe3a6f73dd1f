"""What the parts of one layer hold while they compute a chunk of prefill, as transformers' layers do.

The factors count copies of a width that are alive at once; they were read off dry runs of some ninety
published shapes in bf16 and fp32, against which tests hold them.
"""

from __future__ import annotations

from typing import NamedTuple

from engine.checkpoint import ModelConfig
from engine.checkpoint.attention import FULL, LINEAR, SLIDING
from engine.plan.processor import has_matrix_units

_FLOAT_BYTES = 4
_HALF_BYTES = 2
_RESIDUAL_COPIES = 4.1
"""The stream, the embeddings beside it, the normalised input and the output of a part."""
_GATED, _FUSED, _PLAIN, _UNFUSED_GELU = 3.0, 4.0, 2.0, 4.5
_MLP_COPIES = {
    **dict.fromkeys(("phi3", "glm", "glm4", "chatglm"), _FUSED),
    **dict.fromkeys(("gpt_neox", "falcon", "opt", "starcoder2", "mpt"), _PLAIN),
    "gpt_bigcode": 2.5,
    **dict.fromkeys(("gpt2", "gpt-sw3", "gptj", "codegen", "moss", "gpt_neo", "phi"), _UNFUSED_GELU),
    "bloom": 6.5,
    "gemma2": 3.3,
}
"""Of the MLP's width: gate, up, their product; gate and up are one where they are fused."""
_ROTATED = {
    **dict.fromkeys(("stablelm", "phi", "persimmon", "glm", "glm4", "chatglm"), (8.2, 4.3)),
    **dict.fromkeys(("gpt_neox", "nemotron", "qwen3_next"), (8.2, 4.3)),
    "cohere": (9.3, 4.8),
}
"""Of the width of queries and of keys, where a part of each head is rotated and joined to the rest again."""
_WHOLLY_ROTATED = (4.7, 2.8)
_BESIDE = (2.4, 3.2)
"""Of the width of queries and of keys, while attention is computed."""
_LATENT_BESIDE = 5.0
_EXPANDED = 2.5
"""Latent attention makes keys, values and the projection of both of the latents, for every head."""
_SCORED_KEYS = 3
"""Float copies of keys and values, and of scaled keys; of queries, scaled ones and the result as many."""
_SCORED = 2
"""Float scores and their softmax."""


class _Eager(NamedTuple):
    """Attention that is written out, and keeps every score.

    Attributes:
        elements: per query head, query and key, of the computed dtype.
        bytes: beside them, whatever the dtype.
        beside: of the width of the queries.
    """

    elements: float = 0.0
    bytes: float = 12.3
    beside: float = 11.5


_EAGER = {
    "bloom": _Eager(3.0, 8.0, 4.5),
    "mpt": _Eager(2.0, 8.0, 4.5),
    "gpt_oss": _Eager(4.3, 0.0, 5.5),
    "gemma2": _Eager(beside=5.0),
    **dict.fromkeys(("gptj", "codegen", "moss", "gpt_neo", "chatglm"), _Eager()),
}
_IN_FLOAT = ("gptj", "codegen", "moss", "gpt_neo")
"""Families whose queries and keys are rotated and multiplied in float32, and kept beside the others."""
_HALF_ROUTED = (
    "mixtral",
    "phimoe",
    "qwen2_moe",
    "qwen3_moe",
    "qwen3_next",
    "olmoe",
    "granitemoe",
    "granitemoeshared",
    "granitemoehybrid",
    "jamba",
)
"""Families that weigh experts' outputs in the computed dtype; the others do it in float32."""
_SCANNED = ("mamba", "falcon_mamba")
_SCAN_COPIES = 3.8
_MIXER_COPIES = {"qwen3_next": 0.14}
_ANY_MIXER_COPIES = 0.25
"""Of a state per token, for mixers that go through the chunk in blocks."""


class PrefillChunk(NamedTuple):
    """One chunk of prefill.

    Attributes:
        config: of the model.
        tokens: computed at once.
        context_tokens: in the cache when it is done.
        itemsize: bytes of one computed element.
    """

    config: ModelConfig
    tokens: int
    context_tokens: int
    itemsize: int

    @property
    def _queries(self) -> int:
        return self.config.heads * self.config.head_dim

    @property
    def _keys(self) -> int:
        """Width of one layer's keys as they are cached and count until the layer is done."""
        return self.config.latent_width // 2 or self.config.kv_heads * self.config.head_dim

    @property
    def _visible_tokens(self) -> int:
        """Keys that a query sees at most."""
        kinds = set(self.config.layer_types)
        if kinds <= {SLIDING, LINEAR} and self.config.sliding_window:
            return min(self.context_tokens, self.config.sliding_window + self.tokens)
        return self.context_tokens

    def _bytes(self, width: float) -> float:
        """Of one vector per token of the chunk."""
        return width * self.tokens * self.itemsize

    def residual_bytes(self) -> float:
        """The stream that all layers share."""
        return self._bytes(_RESIDUAL_COPIES * self.config.hidden_size)

    def mlp_bytes(self) -> float:
        """MLP or experts, while this layer's new keys and values wait to be counted as cache."""
        copies = _MLP_COPIES.get(self.config.model_type, _GATED)
        dense = copies * self.config.intermediate_size
        return self._bytes(max(dense, self._expert_width()) + 2 * self._keys)

    def _expert_width(self) -> float:
        """Every token goes to several experts: it is gathered, computed, weighed and put back."""
        config = self.config
        each = config.intermediate_size / max(config.active_experts, 1)
        weighed = _FLOAT_BYTES / self.itemsize if config.model_type not in _HALF_ROUTED else 1.0
        moved = (2 + 2 * weighed) * config.hidden_size
        computed = config.hidden_size + _FUSED * each
        return config.active_experts * max(moved, computed) + config.hidden_size

    def projection_bytes(self) -> float:
        """Queries and keys while they are rotated, or while new keys are joined to those cached."""
        queries, keys = _ROTATED.get(self.config.model_type, _WHOLLY_ROTATED)
        rotated = self._bytes(queries * self._queries + keys * self._keys)
        joined = self._beside_bytes() + self._over_context(self._keys)
        return max(rotated, joined)

    def _beside_bytes(self) -> float:
        queries, keys = _BESIDE
        return self._bytes(queries * self._queries + keys * self._keys)

    def attention_bytes(self, *, gpu: bool) -> float:
        """Attention over everything that is cached."""
        if {FULL, SLIDING, "hybrid"}.isdisjoint(self.config.layer_types):
            return 0.0
        if self.config.model_type in _EAGER:
            return self._eager_bytes() + self._repeated_bytes()
        if self.config.latent_width:
            return self._latent_bytes(gpu=gpu) + self._mask_bytes(gpu=gpu)
        beside = self._beside_bytes()
        if self._is_falcon_with_one_key_head and not gpu:
            return beside + self._mask_bytes(gpu=gpu) + self._scored_bytes()
        repacks = not gpu and self.itemsize <= _HALF_BYTES and has_matrix_units()
        repacked = self._over_context(2 * self._queries) if repacks else 0.0
        return beside + self._mask_bytes(gpu=gpu) + self._repeated_bytes() + repacked

    @property
    def _is_falcon_with_one_key_head(self) -> bool:
        """Its keys are not repeated for every head, which no fused kernel of the CPU takes."""
        return self.config.model_type == "falcon" and self.config.kv_heads == 1

    def _over_context(self, width: float) -> float:
        """Bytes of one vector per token that a query sees."""
        return width * self._visible_tokens * self.itemsize

    def _mask_bytes(self, *, gpu: bool) -> float:
        """Which query sees which key: as flags, and as numbers that a kernel makes of them."""
        return self.tokens * self._visible_tokens * (1 + self.itemsize * (2 if gpu else 1))

    def _repeated_bytes(self) -> float:
        """One layer's keys and values, once more for every query head; a single pair is not copied."""
        is_grouped = 1 < self.config.kv_heads < self.config.heads
        return self._over_context(2 * self._queries) if is_grouped else 0.0

    def _eager_bytes(self) -> float:
        eager = _EAGER[self.config.model_type]
        scores = self.config.heads * self.tokens * self._visible_tokens
        copies = self.itemsize / _HALF_BYTES if self.config.model_type in _IN_FLOAT else 1.0
        beside = self._bytes(copies * eager.beside * self._queries)
        return scores * (eager.elements * self.itemsize + eager.bytes) + beside

    def _scored_bytes(self) -> float:
        """The CPU's plain way: everything in float32."""
        scores = self.config.heads * self.tokens * self._visible_tokens
        copies = _SCORED_KEYS * self._queries * (self._visible_tokens + self.tokens)
        return _FLOAT_BYTES * (_SCORED * scores + copies)

    def _latent_bytes(self, *, gpu: bool) -> float:
        """Keys and values are made of the latents anew, for every head and everything that is cached."""
        expanded = self._over_context(_EXPANDED * self._queries)
        beside = self._bytes(_LATENT_BESIDE * self._queries)
        return beside + expanded + (0.0 if gpu else self._scored_bytes())

    def mixer_bytes(self) -> float:
        """A recurrent mixer: Mamba scans whole prompts with a state per token, the others go in blocks."""
        state = _FLOAT_BYTES * self.config.linear_state
        if self.config.model_type in _SCANNED:
            return _SCAN_COPIES * state * self.context_tokens
        return _MIXER_COPIES.get(self.config.model_type, _ANY_MIXER_COPIES) * state * self.tokens
