"""Families whose layers are attention and one MLP, since LLaMA."""

from __future__ import annotations

from collections.abc import Mapping

from engine.checkpoint.fields import Fields
from engine.checkpoint.shapes.blocks import (
    ATTENTION,
    EMBEDDING,
    HEAD,
    HEAD_NORMS,
    LATENT_ATTENTION,
    NORMS,
    OUTSIDE,
    QUERY_NORMS,
    WIDE_NORMS,
    attention,
    gated_mlp,
    plain_mlp,
)
from engine.checkpoint.shapes.family import Family
from engine.checkpoint.shapes.rows import ALWAYS, linear, norm, tensor, when
from engine.checkpoint.shapes.words import Sizes

_MLP = gated_mlp()
_MLP_WITH_BIAS = gated_mlp(bias="mlp_bias")
_FUSED_MLP = linear("mlp.gate_up_proj", "hidden", "2*inner") + linear("mlp.down_proj", "inner", "hidden")
_POST_NORMS = norm("post_attention_layernorm") + norm("post_feedforward_layernorm")
_LAYER_NORMS = norm("input_layernorm", bias=ALWAYS) + norm("post_attention_layernorm", bias=ALWAYS)
_LAYER_NORM_OUTSIDE = EMBEDDING + norm("model.norm", bias=ALWAYS) + HEAD

_LLAMA = Family(OUTSIDE, NORMS + ATTENTION + _MLP_WITH_BIAS)
_MISTRAL = Family(OUTSIDE, NORMS + attention() + _MLP)
_GEMMA_2 = Family(OUTSIDE, NORMS + ATTENTION + _MLP + norm("pre_feedforward_layernorm") + _POST_NORMS[1:])
_GLM = NORMS + attention("attention_bias") + _FUSED_MLP
_OLMO_2 = Family(OUTSIDE, _POST_NORMS + ATTENTION + WIDE_NORMS + _MLP)
_COHERE = Family(
    OUTSIDE,
    norm("input_layernorm")
    + ATTENTION
    + when(
        "use_qk_norm",
        tensor("self_attn.q_norm.weight", "heads", "head_dim")
        + tensor("self_attn.k_norm.weight", "kv_heads", "head_dim"),
    )
    + _MLP,
)
_STABLELM = (
    norm("input_layernorm", bias=ALWAYS)
    + when("!use_parallel_residual", norm("post_attention_layernorm", bias=ALWAYS))
    + attention("use_qkv_bias")
    + when(
        "qk_layernorm",
        norm("self_attn.q_layernorm.norms.{heads}", "head_dim")
        + norm("self_attn.k_layernorm.norms.{kv_heads}", "head_dim"),
    )
    + _MLP
)
_PHI = (
    norm("input_layernorm", bias=ALWAYS)
    + attention(ALWAYS)[:-1]
    + linear("self_attn.dense", "queries", "hidden", ALWAYS)
    + when(
        "qk_layernorm",
        norm("self_attn.q_layernorm", "head_dim", ALWAYS) + norm("self_attn.k_layernorm", "head_dim", ALWAYS),
    )
    + plain_mlp("mlp.fc1", "mlp.fc2", ALWAYS)
)
_PHI_OUTSIDE = (
    EMBEDDING
    + norm("model.final_layernorm", bias=ALWAYS)
    + when("!tied", linear("lm_head", "hidden", "vocab", ALWAYS))
)
_PERSIMMON = (
    _LAYER_NORMS
    + linear("self_attn.query_key_value", "hidden", "3*hidden", ALWAYS)
    + linear("self_attn.dense", "hidden", "hidden", ALWAYS)
    + when(
        "qk_layernorm",
        norm("self_attn.q_layernorm", "head_dim", ALWAYS) + norm("self_attn.k_layernorm", "head_dim", ALWAYS),
    )
    + plain_mlp("mlp.dense_h_to_4h", "mlp.dense_4h_to_h", ALWAYS)
)
_GEMMA_3N = (
    NORMS
    + attention("attention_bias", "attention_bias")[:2]
    + when("!shares_keys", attention("attention_bias")[2:-1] + norm("self_attn.k_norm", "head_dim"))
    + linear("self_attn.o_proj", "queries", "hidden", "attention_bias")
    + norm("self_attn.q_norm", "head_dim")
    + _MLP
    + norm("pre_feedforward_layernorm")
    + norm("post_feedforward_layernorm")
    + norm("post_per_layer_input_norm")
    + linear("per_layer_input_gate", "hidden", "hidden_size_per_layer_input")
    + linear("per_layer_projection", "hidden_size_per_layer_input", "hidden")
    + linear("laurel.linear_left", "hidden", "laurel_rank")
    + linear("laurel.linear_right", "laurel_rank", "hidden")
    + norm("laurel.post_laurel_norm")
    + tensor("altup.correct_output_scale", "hidden")
    + linear("altup.correction_coefs", "altup_num_inputs", "altup_num_inputs")
    + linear("altup.prediction_coefs", "altup_num_inputs", "altup_num_inputs*altup_num_inputs")
    + linear("altup.modality_router", "hidden", "altup_num_inputs")
    + norm("altup.router_norm")
)
_GEMMA_3N_OUTSIDE = (
    OUTSIDE
    + tensor(
        "model.embed_tokens_per_layer.weight",
        "vocab_size_per_layer_input",
        "layers*hidden_size_per_layer_input",
    )
    + linear("model.per_layer_model_projection", "hidden", "layers*hidden_size_per_layer_input")
    + norm("model.per_layer_projection_norm", "hidden_size_per_layer_input")
    + linear("model.altup_projections.{altup_others}", "hidden", "hidden")
    + linear("model.altup_unembed_projections.{altup_others}", "hidden", "hidden")
)


def _altup_words(fields: Fields, _sizes: Mapping[str, int]) -> Sizes:
    return {"altup_others": fields.integer("altup_num_inputs", high=64) - 1}


DENSE: dict[str, Family] = {
    **dict.fromkeys(("llama", "granite", "smollm3", "iquestcoder"), _LLAMA),
    **dict.fromkeys(("mistral", "ministral", "ministral3"), _MISTRAL),
    "cwm": Family(OUTSIDE, NORMS + attention() + _MLP_WITH_BIAS),
    "internlm3": Family(OUTSIDE, NORMS + attention("qkv_bias", "qkv_bias") + gated_mlp(bias="bias")),
    "seed_oss": Family(OUTSIDE, NORMS + attention("attention_bias", "attention_out_bias") + _MLP_WITH_BIAS),
    "arcee": Family(OUTSIDE, NORMS + ATTENTION + plain_mlp("mlp.up_proj", "mlp.down_proj", "mlp_bias")),
    "helium": Family(
        OUTSIDE,
        NORMS
        + attention("attention_bias")[:-1]
        + linear("self_attn.o_proj", "hidden", "hidden")
        + _MLP_WITH_BIAS,
    ),
    "ernie4_5": Family(OUTSIDE, NORMS + attention("use_bias", "use_bias") + gated_mlp(bias="use_bias")),
    "hunyuan_v1_dense": Family(OUTSIDE, NORMS + ATTENTION + QUERY_NORMS + _MLP),
    "exaone4": Family(OUTSIDE, _POST_NORMS + attention() + HEAD_NORMS + _MLP),
    "olmo": Family(EMBEDDING + HEAD, ATTENTION + _MLP),
    **dict.fromkeys(("olmo2", "olmo3"), _OLMO_2),
    "qwen2": Family(OUTSIDE, NORMS + attention(ALWAYS) + _MLP),
    "qwen3": Family(OUTSIDE, NORMS + ATTENTION + HEAD_NORMS + _MLP),
    "gemma": Family(OUTSIDE, NORMS + ATTENTION + _MLP),
    "gemma2": _GEMMA_2,
    "gemma3_text": _GEMMA_2._replace(layer=_GEMMA_2.layer + HEAD_NORMS),
    "gemma3n_text": Family(_GEMMA_3N_OUTSIDE, _GEMMA_3N, words=_altup_words),
    "phi": Family(_PHI_OUTSIDE, _PHI),
    "phi3": Family(
        OUTSIDE,
        NORMS
        + linear("self_attn.qkv_proj", "hidden", "queries+2*keys")
        + linear("self_attn.o_proj", "queries", "hidden")
        + _FUSED_MLP,
    ),
    "glm": Family(OUTSIDE, _GLM),
    "glm4": Family(OUTSIDE, _GLM + norm("post_self_attn_layernorm") + norm("post_mlp_layernorm")),
    **dict.fromkeys(("cohere", "cohere2"), _COHERE),
    "stablelm": Family(_LAYER_NORM_OUTSIDE, _STABLELM),
    "persimmon": Family(EMBEDDING + norm("model.final_layernorm", bias=ALWAYS) + HEAD, _PERSIMMON),
    "nemotron": Family(
        _LAYER_NORM_OUTSIDE,
        _LAYER_NORMS + ATTENTION + plain_mlp("mlp.up_proj", "mlp.down_proj", "mlp_bias"),
    ),
    "starcoder2": Family(
        _LAYER_NORM_OUTSIDE,
        _LAYER_NORMS + attention("use_bias", "use_bias") + plain_mlp("mlp.c_fc", "mlp.c_proj", "use_bias"),
    ),
    "minicpm3": Family(OUTSIDE, NORMS + LATENT_ATTENTION + _MLP_WITH_BIAS),
}
"""By `model_type`."""
