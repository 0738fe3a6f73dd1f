"""Families that run only by code of their own repositories; planned from their shapes, never run."""

from __future__ import annotations

from engine.checkpoint.shapes.blocks import (
    DENSE_OR_EXPERTS,
    EMBEDDING,
    HEAD,
    NORMS,
    OUTSIDE,
    SHARED_EXPERTS,
    attention,
    gated_mlp,
)
from engine.checkpoint.shapes.family import Family
from engine.checkpoint.shapes.rows import ALWAYS, linear, norm, tensor, when

_LLAMA = Family(OUTSIDE, NORMS + attention() + gated_mlp())
_CHATGLM = Family(
    tensor("transformer.word_embeddings.weight", "vocab", "hidden")
    + norm("transformer.final_layernorm", bias=ALWAYS)
    + linear("lm_head", "hidden", "vocab"),
    norm("input_layernorm", bias=ALWAYS)
    + norm("post_attention_layernorm", bias=ALWAYS)
    + linear("attention.query_key_value", "hidden", "3*hidden", ALWAYS)
    + linear("attention.dense", "hidden", "hidden", ALWAYS)
    + linear("mlp.dense_h_to_4h", "hidden", "inner", ALWAYS)
    + linear("mlp.dense_4h_to_h", "inner", "hidden", ALWAYS),
    "transformer.layers",
)
_CHATGLM_2 = Family(
    tensor("transformer.embedding.word_embeddings.weight", "vocab", "hidden")
    + norm("transformer.encoder.final_layernorm")
    + linear("transformer.output_layer", "hidden", "vocab"),
    NORMS
    + linear("self_attention.query_key_value", "hidden", "queries+2*keys", "qkv_bias")
    + linear("self_attention.dense", "queries", "hidden", "add_bias_linear")
    + linear("mlp.dense_h_to_4h", "hidden", "2*inner", "add_bias_linear")
    + linear("mlp.dense_4h_to_h", "inner", "hidden", "add_bias_linear"),
    "transformer.encoder.layers",
    lambda fields, _sizes: {"qkv_bias": int(bool(fields.find("add_qkv_bias", "add_bias_linear")))},
)
_QWEN = Family(
    tensor("transformer.wte.weight", "vocab", "hidden")
    + norm("transformer.ln_f")
    + linear("lm_head", "hidden", "vocab"),
    norm("ln_1")
    + norm("ln_2")
    + linear("attn.c_attn", "hidden", "3*queries", ALWAYS)
    + linear("attn.c_proj", "queries", "hidden", "!no_bias")
    + linear("mlp.w1", "hidden", "half_inner", "!no_bias")
    + linear("mlp.w2", "hidden", "half_inner", "!no_bias")
    + linear("mlp.c_proj", "half_inner", "hidden", "!no_bias"),
    "transformer.h",
    lambda _fields, sizes: {"half_inner": sizes["inner"] // 2},
)
_INTERNLM_2 = Family(
    tensor("model.tok_embeddings.weight", "vocab", "hidden")
    + norm("model.norm")
    + when("!tied", linear("output", "hidden", "vocab")),
    norm("attention_norm")
    + norm("ffn_norm")
    + linear("attention.wqkv", "hidden", "queries+2*keys", "bias")
    + linear("attention.wo", "queries", "hidden", "bias")
    + linear("feed_forward.w1", "hidden", "inner")
    + linear("feed_forward.w3", "hidden", "inner")
    + linear("feed_forward.w2", "inner", "hidden"),
)
_BAICHUAN = Family(
    OUTSIDE,
    NORMS
    + linear("self_attn.W_pack", "hidden", "3*hidden")
    + linear("self_attn.o_proj", "queries", "hidden")
    + gated_mlp(),
)

LEGACY: dict[str, Family] = {
    **dict.fromkeys(("Yi", "aquila", "xverse", "skywork", "minicpm"), _LLAMA),
    "internlm": Family(OUTSIDE, NORMS + attention("bias", "bias") + gated_mlp()),
    "internlm2": _INTERNLM_2,
    "baichuan": _BAICHUAN,
    "qwen": _QWEN,
    "chatglm": _CHATGLM,
    "chatglm2": _CHATGLM_2,
    "deepseek": Family(
        OUTSIDE,
        NORMS
        + attention("attention_bias", "attention_bias")
        + DENSE_OR_EXPERTS
        + when("sparse", SHARED_EXPERTS),
    ),
    "orion": Family(
        EMBEDDING + norm("model.norm", bias=ALWAYS) + HEAD,
        norm("input_layernorm", bias=ALWAYS)
        + norm("post_attention_layernorm", bias=ALWAYS)
        + attention()
        + gated_mlp(),
    ),
}
"""By `model_type`; the second and later ChatGLMs as "chatglm2"."""
