"""Tables that many families share; names are those of a layer's tensors as stored."""

from __future__ import annotations

from engine.checkpoint.shapes.rows import ALWAYS, NEVER, Table, linear, norm, tensor, when

EMBEDDING = tensor("model.embed_tokens.weight", "vocab", "hidden")
HEAD = when("!tied", linear("lm_head", "hidden", "vocab"))
OUTSIDE = EMBEDDING + norm("model.norm") + HEAD
NORMS = norm("input_layernorm") + norm("post_attention_layernorm")


def attention(bias: str = NEVER, output_bias: str = NEVER) -> Table:
    """Four projections, grouped queries included; `bias` and `output_bias` are words."""
    return (
        linear("self_attn.q_proj", "hidden", "queries", bias)
        + linear("self_attn.k_proj", "hidden", "keys", bias)
        + linear("self_attn.v_proj", "hidden", "keys", bias)
        + linear("self_attn.o_proj", "queries", "hidden", output_bias)
    )


def gated_mlp(name: str = "mlp", inner: str = "inner", bias: str = NEVER) -> Table:
    """Gate, up and down projection of one MLP."""
    return (
        linear(f"{name}.gate_proj", "hidden", inner, bias)
        + linear(f"{name}.up_proj", "hidden", inner, bias)
        + linear(f"{name}.down_proj", inner, "hidden", bias)
    )


def plain_mlp(up: str, down: str, bias: str = NEVER) -> Table:
    """An MLP of two projections."""
    return linear(up, "hidden", "inner", bias) + linear(down, "inner", "hidden", bias)


ATTENTION = attention("attention_bias", "attention_bias")
HEAD_NORMS = norm("self_attn.q_norm", "head_dim") + norm("self_attn.k_norm", "head_dim")
QUERY_NORMS = norm("self_attn.query_layernorm", "head_dim") + norm("self_attn.key_layernorm", "head_dim")
WIDE_NORMS = norm("self_attn.q_norm", "queries") + norm("self_attn.k_norm", "keys")
EXPERTS = linear("mlp.gate", "hidden", "experts") + gated_mlp("mlp.experts.{experts}", "expert_inner")
MIXTRAL_EXPERTS = (
    linear("block_sparse_moe.gate", "hidden", "experts")
    + linear("block_sparse_moe.experts.{experts}.w1", "hidden", "inner")
    + linear("block_sparse_moe.experts.{experts}.w2", "inner", "hidden")
    + linear("block_sparse_moe.experts.{experts}.w3", "hidden", "inner")
)
DENSE_OR_EXPERTS = when("!sparse", gated_mlp()) + when("sparse", EXPERTS)
SHARED_EXPERTS = when("shared_inner", gated_mlp("mlp.shared_experts", "shared_inner"))
SCORE_CORRECTION = tensor("mlp.gate.e_score_correction_bias", "experts")

LATENT_ATTENTION = (
    when("!q_lora_rank", linear("self_attn.q_proj", "hidden", "heads*qk_head_dim"))
    + when(
        "q_lora_rank",
        linear("self_attn.q_a_proj", "hidden", "q_lora_rank", "attention_bias")
        + norm("self_attn.q_a_layernorm", "q_lora_rank")
        + linear("self_attn.q_b_proj", "q_lora_rank", "heads*qk_head_dim"),
    )
    + linear("self_attn.kv_a_proj_with_mqa", "hidden", "kv_lora_rank+qk_rope_head_dim", "attention_bias")
    + norm("self_attn.kv_a_layernorm", "kv_lora_rank")
    + linear("self_attn.kv_b_proj", "kv_lora_rank", "heads*qk_nope_head_dim+heads*v_head_dim")
    + linear("self_attn.o_proj", "heads*v_head_dim", "hidden", "attention_bias")
)

MAMBA = (
    linear("mixer.in_proj", "hidden", "2*mixer_inner", "mixer_bias")
    + tensor("mixer.conv1d.weight", "mixer_inner", "1", "kernel")
    + when("conv_bias", tensor("mixer.conv1d.bias", "mixer_inner"))
    + linear("mixer.x_proj", "mixer_inner", "rank+2*state")
    + linear("mixer.dt_proj", "rank", "mixer_inner", ALWAYS)
    + tensor("mixer.A_log", "mixer_inner", "state")
    + tensor("mixer.D", "mixer_inner")
    + linear("mixer.out_proj", "mixer_inner", "hidden", "mixer_bias")
)
MAMBA_2 = (
    linear("mixer.in_proj", "hidden", "2*mixer_inner+2*groups*state+mixer_heads", "mixer_bias")
    + tensor("mixer.conv1d.weight", "mixer_inner+2*groups*state", "1", "kernel")
    + when("conv_bias", tensor("mixer.conv1d.bias", "mixer_inner+2*groups*state"))
    + tensor("mixer.dt_bias", "mixer_heads")
    + tensor("mixer.A_log", "mixer_heads")
    + tensor("mixer.D", "mixer_heads")
    + when("mixer_norm", norm("mixer.norm", "mixer_inner"))
    + linear("mixer.out_proj", "mixer_inner", "hidden", "output_bias")
)
