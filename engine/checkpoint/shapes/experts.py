"""Families whose layers choose among experts; the experts lie one by one, as checkpoints store them."""

from __future__ import annotations

from collections.abc import Mapping

from engine.checkpoint.fields import Fields
from engine.checkpoint.shapes.blocks import (
    ATTENTION,
    DENSE_OR_EXPERTS,
    EMBEDDING,
    EXPERTS,
    HEAD_NORMS,
    LATENT_ATTENTION,
    MIXTRAL_EXPERTS,
    NORMS,
    OUTSIDE,
    QUERY_NORMS,
    SCORE_CORRECTION,
    SHARED_EXPERTS,
    WIDE_NORMS,
    attention,
    gated_mlp,
)
from engine.checkpoint.shapes.family import Family
from engine.checkpoint.shapes.rows import ALWAYS, linear, norm, tensor, when
from engine.checkpoint.shapes.words import Sizes

_SHARED_EXPERT = gated_mlp("mlp.shared_expert", "shared_expert_intermediate_size") + linear(
    "mlp.shared_expert_gate", "hidden", "1"
)
_DEEPSEEK_V2 = DENSE_OR_EXPERTS + when("sparse", SHARED_EXPERTS)
_DEEPSEEK_V3 = _DEEPSEEK_V2 + when("sparse", SCORE_CORRECTION)
_GRANITE_EXPERTS = (
    tensor("block_sparse_moe.input_linear.weight", "experts", "2*inner", "hidden")
    + tensor("block_sparse_moe.output_linear.weight", "experts", "hidden", "inner")
    + linear("block_sparse_moe.router.layer", "hidden", "experts")
)
GRANITE_MLP = when("experts", _GRANITE_EXPERTS) + when(
    "shared_intermediate_size",
    linear("shared_mlp.input_linear", "hidden", "2*shared_intermediate_size")
    + linear("shared_mlp.output_linear", "shared_intermediate_size", "hidden"),
)
_PHI_MOE_NORMS = norm("input_layernorm", bias=ALWAYS) + norm("post_attention_layernorm", bias=ALWAYS)
_ERNIE = (
    NORMS
    + attention("use_bias", "use_bias")
    + when("!sparse", gated_mlp(bias="use_bias"))
    + when("sparse", linear("mlp.gate", "hidden", "experts"))
    + when("sparse", gated_mlp("mlp.experts.{experts}", "expert_inner", "use_bias"))
    + when("sparse", tensor("mlp.moe_statics.e_score_correction_bias", "1", "experts"))
    + when("sparse", when("shared_inner", gated_mlp("mlp.shared_experts", "shared_inner", "use_bias")))
)
_GPT_OSS = (
    NORMS
    + ATTENTION
    + tensor("self_attn.sinks", "heads")
    + linear("mlp.router", "hidden", "experts", ALWAYS)
    + tensor("mlp.experts.gate_up_proj", "experts", "hidden", "2*inner")
    + tensor("mlp.experts.gate_up_proj_bias", "experts", "2*inner")
    + tensor("mlp.experts.down_proj", "experts", "inner", "hidden")
    + tensor("mlp.experts.down_proj_bias", "experts", "hidden")
)
_MINIMAX = (
    NORMS
    + attention()
    + WIDE_NORMS
    + MIXTRAL_EXPERTS
    + tensor("block_sparse_moe.e_score_correction_bias", "experts")
)


def _olmoe_words(_fields: Fields, sizes: Mapping[str, int]) -> Sizes:
    """Its norms of queries and keys go by the hidden size, whatever the width of a head."""
    hidden = sizes["hidden"]
    return {"normed_keys": hidden // sizes["heads"] * sizes["kv_heads"], "expert_inner": sizes["inner"]}


EXPERT_FAMILIES: dict[str, Family] = {
    "mixtral": Family(OUTSIDE, NORMS + attention() + MIXTRAL_EXPERTS),
    "phimoe": Family(
        EMBEDDING
        + norm("model.norm", bias=ALWAYS)
        + when("!tied", linear("lm_head", "hidden", "vocab", "lm_head_bias")),
        _PHI_MOE_NORMS + ATTENTION + MIXTRAL_EXPERTS,
    ),
    "qwen2_moe": Family(
        OUTSIDE, NORMS + attention("qkv_bias") + DENSE_OR_EXPERTS + when("sparse", _SHARED_EXPERT)
    ),
    "qwen3_moe": Family(OUTSIDE, NORMS + ATTENTION + HEAD_NORMS + DENSE_OR_EXPERTS),
    "olmoe": Family(
        OUTSIDE,
        NORMS + ATTENTION + norm("self_attn.q_norm") + norm("self_attn.k_norm", "normed_keys") + EXPERTS,
        words=_olmoe_words,
    ),
    "deepseek_v2": Family(OUTSIDE, NORMS + LATENT_ATTENTION + _DEEPSEEK_V2),
    **dict.fromkeys(
        ("deepseek_v3", "glm4_moe_lite"), Family(OUTSIDE, NORMS + LATENT_ATTENTION + _DEEPSEEK_V3)
    ),
    "glm4_moe": Family(
        OUTSIDE, NORMS + attention("attention_bias") + when("use_qk_norm", HEAD_NORMS) + _DEEPSEEK_V3
    ),
    "dots1": Family(OUTSIDE, NORMS + ATTENTION + HEAD_NORMS + _DEEPSEEK_V3),
    "solar_open": Family(OUTSIDE, NORMS + attention("attention_bias") + _DEEPSEEK_V3),
    "exaone_moe": Family(
        OUTSIDE,
        NORMS
        + attention()
        + HEAD_NORMS
        + _DEEPSEEK_V2
        + when("sparse", tensor("mlp.e_score_correction_bias", "experts")),
    ),
    "gpt_oss": Family(OUTSIDE, _GPT_OSS),
    "granitemoe": Family(OUTSIDE, NORMS + ATTENTION + _GRANITE_EXPERTS),
    "granitemoeshared": Family(OUTSIDE, NORMS + ATTENTION + GRANITE_MLP),
    "ernie4_5_moe": Family(
        EMBEDDING + norm("model.norm") + when("!tied", linear("lm_head", "hidden", "vocab", "use_bias")),
        _ERNIE,
    ),
    "hunyuan_v1_moe": Family(
        OUTSIDE,
        NORMS
        + ATTENTION
        + QUERY_NORMS
        + linear("mlp.gate.wg", "hidden", "experts")
        + gated_mlp("mlp.experts.{experts}")
        + gated_mlp("mlp.shared_mlp"),
    ),
    "minimax_m2": Family(OUTSIDE, _MINIMAX),
}
"""By `model_type`."""
