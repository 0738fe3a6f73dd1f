"""Families with layers that keep a state of constant size: Mamba, gated delta nets, short convolutions."""

from __future__ import annotations

import math
from collections.abc import Mapping

from engine.checkpoint.fields import Fields
from engine.checkpoint.shapes.blocks import (
    ATTENTION,
    DENSE_OR_EXPERTS,
    EMBEDDING,
    HEAD,
    HEAD_NORMS,
    MAMBA,
    MAMBA_2,
    NORMS,
    OUTSIDE,
    attention,
    gated_mlp,
)
from engine.checkpoint.shapes.experts import GRANITE_MLP
from engine.checkpoint.shapes.family import Family
from engine.checkpoint.shapes.rows import linear, norm, renamed, tensor, when
from engine.checkpoint.shapes.words import Sizes

_WIDEST = 2**24
_MAMBA_OUTSIDE = tensor("backbone.embeddings.weight", "vocab", "hidden") + norm("backbone.norm_f") + HEAD
_FINAL_OUTSIDE = EMBEDDING + norm("model.final_layernorm") + HEAD
_FEED_FORWARD = norm("pre_ff_layernorm") + gated_mlp("feed_forward", bias="mlp_bias")
_MIXER_2 = renamed(MAMBA_2, ("mixer.", "mamba."))
_JAMBA_MIXER = (
    renamed(MAMBA, ("mixer.", "mamba."))
    + norm("mamba.dt_layernorm", "rank")
    + norm("mamba.b_layernorm", "state")
    + norm("mamba.c_layernorm", "state")
)
_JAMBA = (
    norm("input_layernorm")
    + when("linear", _JAMBA_MIXER)
    + when("!linear", attention())
    + norm("pre_ff_layernorm")
    + when("!sparse", gated_mlp("feed_forward"))
    + when(
        "sparse",
        linear("feed_forward.router", "hidden", "experts") + gated_mlp("feed_forward.experts.{experts}"),
    )
)
_DELTA_NET = (
    linear("linear_attn.in_proj_qkvz", "hidden", "2*linear_keys+2*linear_values")
    + linear("linear_attn.in_proj_ba", "hidden", "2*linear_num_value_heads")
    + tensor("linear_attn.conv1d.weight", "2*linear_keys+linear_values", "1", "linear_conv_kernel_dim")
    + tensor("linear_attn.dt_bias", "linear_num_value_heads")
    + tensor("linear_attn.A_log", "linear_num_value_heads")
    + norm("linear_attn.norm", "linear_value_head_dim")
    + linear("linear_attn.out_proj", "linear_values", "hidden")
)
_GATED_ATTENTION = (
    linear("self_attn.q_proj", "hidden", "2*queries", "attention_bias")
    + attention("attention_bias", "attention_bias")[2:]
    + HEAD_NORMS
)
_SHARED_EXPERT = gated_mlp("mlp.shared_expert", "shared_expert_intermediate_size") + linear(
    "mlp.shared_expert_gate", "hidden", "1"
)
_LFM = (
    norm("operator_norm")
    + norm("ffn_norm")
    + when(
        "linear",
        linear("conv.in_proj", "hidden", "3*hidden", "conv_bias")
        + tensor("conv.conv.weight", "hidden", "1", "conv_L_cache")
        + when("conv_bias", tensor("conv.conv.bias", "hidden"))
        + linear("conv.out_proj", "hidden", "hidden", "conv_bias"),
    )
    + when(
        "!linear",
        attention()[:-1]
        + linear("self_attn.out_proj", "queries", "hidden")
        + norm("self_attn.q_layernorm", "head_dim")
        + norm("self_attn.k_layernorm", "head_dim"),
    )
    + linear("feed_forward.w1", "hidden", "adjusted_inner")
    + linear("feed_forward.w3", "hidden", "adjusted_inner")
    + linear("feed_forward.w2", "adjusted_inner", "hidden")
)


def _mamba_words(fields: Fields, sizes: Mapping[str, int]) -> Sizes:
    """Mamba's own: the rank of its time steps may be "auto", a sixteenth of the width."""
    hidden = sizes["hidden"]
    names = ("time_step_rank", "mamba_dt_rank")
    is_derived = fields.string(*names) == "auto" or fields.find(*names) is None
    rank = math.ceil(hidden / 16) if is_derived else fields.integer(*names, high=_WIDEST)
    return {
        "mixer_inner": int((fields.positive("expand", "mamba_expand") or 2) * hidden),
        "rank": rank,
        "state": fields.integer("state_size", "mamba_d_state", high=_WIDEST),
        "kernel": fields.integer("conv_kernel", "mamba_d_conv", high=_WIDEST),
        "mixer_bias": int(bool(fields.find("use_bias", "mamba_proj_bias"))),
        "conv_bias": int(bool(fields.find("use_conv_bias", "mamba_conv_bias"))),
    }


def _mamba_2_words(fields: Fields, sizes: Mapping[str, int]) -> Sizes:
    words = _mamba_words(fields, sizes)
    is_falcon = fields.family == "falcon_h1"
    inner = fields.integer("mamba_d_ssm", high=_WIDEST, default=words["mixer_inner"])
    return words | {
        "mixer_inner": inner if is_falcon else words["mixer_inner"],
        "mixer_heads": fields.integer("num_heads", "mamba_n_heads", high=_WIDEST),
        "groups": fields.integer("n_groups", "mamba_n_groups", high=_WIDEST),
        "mixer_norm": int(bool(fields.flag("mamba_rms_norm"))) if is_falcon else 1,
        "output_bias": int(bool(fields.flag("projectors_bias"))) if is_falcon else words["mixer_bias"],
    }


def _delta_net_words(fields: Fields, _sizes: Mapping[str, int]) -> Sizes:
    key_dim = fields.integer("linear_key_head_dim", high=_WIDEST)
    value_dim = fields.integer("linear_value_head_dim", high=_WIDEST)
    return {
        "linear_keys": fields.integer("linear_num_key_heads", high=_WIDEST) * key_dim,
        "linear_values": fields.integer("linear_num_value_heads", high=_WIDEST) * value_dim,
    }


def _lfm_words(fields: Fields, sizes: Mapping[str, int]) -> Sizes:
    """Its MLP is narrower than config.json says: two thirds, rounded up to a multiple."""
    inner = fields.integer("block_ff_dim", "intermediate_size", high=_WIDEST, default=sizes["inner"])
    if fields.flag("block_auto_adjust_ff_dim") is not False:
        multiple = fields.integer("block_multiple_of", high=_WIDEST, default=256)
        inner = int((fields.positive("block_ffn_dim_multiplier") or 1.0) * int(2 * inner / 3))
        inner = multiple * -(-inner // multiple)
    return {"adjusted_inner": inner}


RECURRENT: dict[str, Family] = {
    **dict.fromkeys(
        ("mamba", "falcon_mamba"),
        Family(_MAMBA_OUTSIDE, norm("norm") + MAMBA, "backbone.layers", _mamba_words),
    ),
    "mamba2": Family(_MAMBA_OUTSIDE, norm("norm") + MAMBA_2, "backbone.layers", _mamba_2_words),
    "falcon_h1": Family(
        _FINAL_OUTSIDE,
        norm("input_layernorm") + ATTENTION + _MIXER_2 + _FEED_FORWARD,
        words=_mamba_2_words,
    ),
    "bamba": Family(
        _FINAL_OUTSIDE,
        norm("input_layernorm") + when("linear", _MIXER_2) + when("!linear", ATTENTION) + _FEED_FORWARD,
        words=_mamba_2_words,
    ),
    "granitemoehybrid": Family(
        OUTSIDE,
        NORMS + when("linear", _MIXER_2) + when("!linear", ATTENTION) + GRANITE_MLP,
        words=_mamba_2_words,
    ),
    "jamba": Family(_FINAL_OUTSIDE, _JAMBA, words=_mamba_words),
    "qwen3_next": Family(
        OUTSIDE,
        NORMS
        + when("linear", _DELTA_NET)
        + when("!linear", _GATED_ATTENTION)
        + DENSE_OR_EXPERTS
        + when("sparse", _SHARED_EXPERT),
        words=_delta_net_words,
    ),
    "lfm2": Family(EMBEDDING + norm("model.embedding_norm") + HEAD, _LFM, words=_lfm_words),
}
"""By `model_type`."""
