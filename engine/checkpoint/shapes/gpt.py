"""The older families: GPT-2 and what followed it until LLaMA, with biases, fused projections and ALiBi."""

from __future__ import annotations

from collections.abc import Mapping

from engine.checkpoint.fields import Fields
from engine.checkpoint.shapes.family import Family
from engine.checkpoint.shapes.rows import ALWAYS, Table, linear, norm, tensor, transposed, when
from engine.checkpoint.shapes.words import Sizes

_HIDDEN_4 = "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"
_EMBEDDING = tensor("transformer.wte.weight", "vocab", "hidden")
_LAST_NORM = norm("transformer.ln_f", bias=ALWAYS)
_HEAD = when("!tied", linear("lm_head", "hidden", "vocab"))
_HEAD_WITH_BIAS = linear("lm_head", "hidden", "vocab", ALWAYS)
_TWO_NORMS = norm("ln_1", bias=ALWAYS) + norm("ln_2", bias=ALWAYS)
_NAMED_NORMS = norm("input_layernorm", bias=ALWAYS) + norm("post_attention_layernorm", bias=ALWAYS)


def _mlp(up: str, down: str, bias: str = ALWAYS) -> Table:
    return linear(up, "hidden", "inner", bias) + linear(down, "inner", "hidden", bias)


def _fused(name: str, bias: str = ALWAYS) -> Table:
    return linear(f"{name}.query_key_value", "hidden", "3*hidden", bias) + linear(
        f"{name}.dense", "hidden", "hidden", bias
    )


def _square(name: str, bias: str = ALWAYS, output_bias: str = ALWAYS) -> Table:
    sides = (linear(f"{name}.{part}_proj", "hidden", "hidden", bias) for part in ("q", "k", "v"))
    return (
        *(row for side in sides for row in side),
        *linear(f"{name}.out_proj", "hidden", "hidden", output_bias),
    )


_GPT_2 = (
    _TWO_NORMS
    + transposed("attn.c_attn", "hidden", "3*hidden")
    + transposed("attn.c_proj", "hidden", "hidden")
    + transposed("mlp.c_fc", "hidden", "inner")
    + transposed("mlp.c_proj", "inner", "hidden")
)
_GPT_BIGCODE = (
    _TWO_NORMS
    + linear("attn.c_attn", "hidden", "hidden+2*cached", ALWAYS)
    + linear("attn.c_proj", "hidden", "hidden", ALWAYS)
    + _mlp("mlp.c_fc", "mlp.c_proj")
)
_ONE_NORM_MLP = norm("ln_1", bias=ALWAYS) + _mlp("mlp.fc_in", "mlp.fc_out")
_CODEGEN = Family(
    _EMBEDDING + _LAST_NORM + _HEAD_WITH_BIAS,
    _ONE_NORM_MLP
    + linear("attn.qkv_proj", "hidden", "3*hidden")
    + linear("attn.out_proj", "hidden", "hidden"),
    "transformer.h",
)
_FALCON = (
    when("!two_norms", norm("input_layernorm", bias=ALWAYS))
    + when("two_norms", norm("ln_attn", bias=ALWAYS) + norm("ln_mlp", bias=ALWAYS))
    + when("!parallel_attn", norm("post_attention_layernorm", bias=ALWAYS))
    + linear("self_attention.query_key_value", "hidden", "hidden+2*cached", "bias")
    + linear("self_attention.dense", "hidden", "hidden", "bias")
    + _mlp(*_HIDDEN_4, "bias")
)
_OPT_NORMS = when(
    "layer_norm_elementwise_affine",
    norm("self_attn_layer_norm", bias=ALWAYS) + norm("final_layer_norm", bias=ALWAYS),
)
_OPT_OUTSIDE = (
    tensor("model.decoder.embed_tokens.weight", "vocab", "embedded")
    + tensor("model.decoder.embed_positions.weight", "max_position_embeddings+2", "hidden")
    + when(
        "projects",
        linear("model.decoder.project_in", "embedded", "hidden")
        + linear("model.decoder.project_out", "hidden", "embedded"),
    )
    + when(
        "do_layer_norm_before",
        when("!_remove_final_layer_norm", norm("model.decoder.final_layer_norm", bias=ALWAYS)),
    )
    + when("!tied", linear("lm_head", "embedded", "vocab"))
)


def _cached_words(fields: Fields, sizes: Mapping[str, int]) -> Sizes:
    """Width of keys in a fused projection; Falcon's norms differ between its generations."""
    head_dim, heads = sizes["head_dim"], sizes["heads"]
    is_new = bool(fields.flag("new_decoder_architecture"))
    shared = 1 if fields.flag("multi_query") else heads
    count = fields.integer("num_kv_heads", "n_head_kv", high=heads, default=heads) if is_new else shared
    norms = fields.integer("num_ln_in_parallel_attn", high=2, default=2 if is_new else 1)
    return {
        "cached": count * head_dim,
        "two_norms": int(norms == 2 and bool(fields.flag("parallel_attn"))),  # noqa: PLR2004 - it is its name
    }


def _opt_words(fields: Fields, sizes: Mapping[str, int]) -> Sizes:
    hidden = sizes["hidden"]
    embedded = fields.integer("word_embed_proj_dim", high=2**24, default=hidden)
    return {"embedded": embedded, "projects": int(embedded != hidden)}


GPT: dict[str, Family] = {
    **dict.fromkeys(
        ("gpt2", "gpt-sw3"),
        Family(
            _EMBEDDING + tensor("transformer.wpe.weight", "n_positions", "hidden") + _LAST_NORM + _HEAD,
            _GPT_2,
            "transformer.h",
        ),
    ),
    "gpt_bigcode": Family(
        _EMBEDDING + tensor("transformer.wpe.weight", "n_positions", "hidden") + _LAST_NORM + _HEAD,
        _GPT_BIGCODE,
        "transformer.h",
        _cached_words,
    ),
    "gpt_neo": Family(
        _EMBEDDING
        + tensor("transformer.wpe.weight", "max_position_embeddings", "hidden")
        + _LAST_NORM
        + _HEAD,
        _TWO_NORMS + _square("attn.attention", "") + _mlp("mlp.c_fc", "mlp.c_proj"),
        "transformer.h",
    ),
    "gptj": Family(
        _EMBEDDING + _LAST_NORM + _HEAD_WITH_BIAS, _ONE_NORM_MLP + _square("attn", "", ""), "transformer.h"
    ),
    "codegen": _CODEGEN,
    "moss": _CODEGEN._replace(
        layer=_CODEGEN.layer + tensor("attn.causal_mask", "1", "1", "n_positions", "n_positions")
    ),
    "gpt_neox": Family(
        tensor("gpt_neox.embed_in.weight", "vocab", "hidden")
        + norm("gpt_neox.final_layer_norm", bias=ALWAYS)
        + when("!tied", linear("embed_out", "hidden", "vocab")),
        _NAMED_NORMS + _fused("attention", "attention_bias") + _mlp(*_HIDDEN_4),
        "gpt_neox.layers",
    ),
    "bloom": Family(
        tensor("transformer.word_embeddings.weight", "vocab", "hidden")
        + norm("transformer.word_embeddings_layernorm", bias=ALWAYS)
        + _LAST_NORM
        + _HEAD,
        _NAMED_NORMS
        + _fused("self_attention")
        + linear(_HIDDEN_4[0], "hidden", "4*hidden", ALWAYS)
        + linear(_HIDDEN_4[1], "4*hidden", "hidden", ALWAYS),
        "transformer.h",
    ),
    **dict.fromkeys(
        ("falcon", "RefinedWeb", "RefinedWebModel"),
        Family(
            tensor("transformer.word_embeddings.weight", "vocab", "hidden") + _LAST_NORM + _HEAD,
            _FALCON,
            "transformer.h",
            _cached_words,
        ),
    ),
    "mpt": Family(
        _EMBEDDING + norm("transformer.norm_f") + _HEAD,
        norm("norm_1")
        + norm("norm_2")
        + linear("attn.Wqkv", "hidden", "3*hidden")
        + linear("attn.out_proj", "hidden", "hidden")
        + linear("ffn.up_proj", "hidden", "4*hidden")
        + linear("ffn.down_proj", "4*hidden", "hidden"),
        "transformer.blocks",
    ),
    "opt": Family(
        _OPT_OUTSIDE,
        _OPT_NORMS + _square("self_attn", "enable_bias", "enable_bias") + _mlp("fc1", "fc2", "enable_bias"),
        "model.decoder.layers",
        _opt_words,
    ),
}
"""By `model_type`."""
