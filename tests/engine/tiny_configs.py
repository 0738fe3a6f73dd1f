"""Configurations of many families, as small as they go, with sizes that tell each dimension apart."""

from __future__ import annotations

from typing import Any

Config = dict[str, Any]

_SIZES: Config = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "vocab_size": 97,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
_WIDE = _SIZES | {"head_dim": 16}
_SLIDING = _WIDE | {"sliding_window": 12}
_GPT: Config = {"n_embd": 48, "n_layer": 3, "n_head": 6, "n_positions": 64, "vocab_size": 97}
_ROTARY = _GPT | {"n_head": 4, "rotary_dim": 4}
_EXPERTS: Config = {"num_experts_per_tok": 2, "moe_intermediate_size": 24}
_ROUTED = _EXPERTS | {"n_routed_experts": 5, "n_shared_experts": 1, "n_group": 1, "topk_group": 1}
_LATENT = _SIZES | {
    "num_key_value_heads": 6,
    "kv_lora_rank": 16,
    "q_lora_rank": 14,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 24,
}
_STATE: Config = {
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "state_size": 6,
    "conv_kernel": 4,
    "vocab_size": 97,
}
_MAMBA_2 = _WIDE | {"mamba_n_heads": 12, "mamba_d_head": 8, "mamba_d_state": 6, "mamba_n_groups": 1}
_ALTERNATING = {"layer_types": ["sliding_attention", "full_attention"] * 2}

TINY: dict[str, Config] = {
    **dict.fromkeys(("llama", "granite", "smollm3", "iquestcoder", "internlm3", "seed_oss", "arcee"), _WIDE),
    **dict.fromkeys(("ernie4_5", "hunyuan_v1_dense", "olmo", "olmo2", "qwen2", "qwen3", "gemma"), _WIDE),
    **dict.fromkeys(("glm", "glm4", "cohere", "nemotron"), _WIDE),
    **dict.fromkeys(("mistral", "ministral", "ministral3", "cwm", "exaone4", "olmo3", "phi3"), _SLIDING),
    **dict.fromkeys(("gemma2", "gemma3_text", "cohere2", "starcoder2"), _SLIDING),
    "helium": _SIZES | {"head_dim": 8},
    "gemma3n_text": _SLIDING
    | _ALTERNATING
    | {
        "num_kv_shared_layers": 2,
        "hidden_size_per_layer_input": 6,
        "vocab_size_per_layer_input": 90,
        "laurel_rank": 5,
        "intermediate_size": [80, 80, 80, 80],
        "activation_sparsity_pattern": [0.0] * 4,
    },
    "stablelm": _SIZES | {"qk_layernorm": True, "use_parallel_residual": True},
    "persimmon": {name: value for name, value in _SIZES.items() if name != "num_key_value_heads"},
    "phi": _SIZES | {"qk_layernorm": True},
    "minicpm3": _LATENT,
    "gpt2": _GPT,
    "gpt_bigcode": _GPT,
    "gptj": _ROTARY,
    "codegen": _ROTARY,
    "gpt_neo": {
        "hidden_size": 48,
        "num_layers": 4,
        "num_heads": 6,
        "vocab_size": 97,
        "max_position_embeddings": 64,
        "attention_types": [[["global", "local"], 2]],
        "intermediate_size": None,
    },
    "gpt_neox": {name: value for name, value in _SIZES.items() if name != "num_key_value_heads"},
    "bloom": {"hidden_size": 48, "n_layer": 3, "n_head": 6, "vocab_size": 97},
    "falcon": {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 6, "vocab_size": 97},
    "mpt": {"d_model": 48, "n_layers": 3, "n_heads": 6, "vocab_size": 97, "max_seq_len": 64},
    "opt": {
        "hidden_size": 48,
        "word_embed_proj_dim": 20,
        "ffn_dim": 80,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "vocab_size": 97,
        "max_position_embeddings": 64,
    },
    **dict.fromkeys(("mixtral", "phimoe"), _WIDE | {"num_local_experts": 5, "num_experts_per_tok": 2}),
    **dict.fromkeys(("granitemoe", "minimax_m2"), _WIDE | {"num_local_experts": 5, "num_experts_per_tok": 2}),
    "gpt_oss": _SLIDING | {"num_local_experts": 5, "num_experts_per_tok": 2},
    "granitemoeshared": _WIDE
    | {"num_local_experts": 5, "num_experts_per_tok": 2, "shared_intermediate_size": 28},
    "qwen2_moe": _WIDE | _EXPERTS | {"num_experts": 5, "shared_expert_intermediate_size": 32},
    "qwen3_moe": _WIDE | _EXPERTS | {"num_experts": 5, "mlp_only_layers": [1]},
    "olmoe": _SIZES | {"num_experts": 5, "num_experts_per_tok": 2},
    "deepseek_v2": _LATENT | _ROUTED | {"first_k_dense_replace": 1},
    "deepseek_v3": _LATENT | _ROUTED | {"first_k_dense_replace": 1, "q_lora_rank": None},
    "glm4_moe_lite": _LATENT | _ROUTED | {"first_k_dense_replace": 1},
    "glm4_moe": _WIDE | _ROUTED | {"first_k_dense_replace": 1, "use_qk_norm": True},
    "dots1": _SLIDING | _ROUTED | {"max_window_layers": 2},
    "solar_open": _WIDE | _ROUTED,
    "exaone_moe": _SLIDING | _EXPERTS | {"num_experts": 5, "num_shared_experts": 2},
    "ernie4_5_moe": _WIDE
    | {
        "moe_num_experts": 5,
        "moe_k": 2,
        "moe_intermediate_size": 24,
        "moe_num_shared_experts": 2,
        "moe_layer_end_index": 2,
    },
    "hunyuan_v1_moe": _WIDE | {"num_experts": 5, "moe_topk": 2},
    **dict.fromkeys(("mamba", "falcon_mamba"), _STATE),
    "mamba2": _STATE | {"num_heads": 12, "head_dim": 8, "n_groups": 2},
    "falcon_h1": _MAMBA_2 | {"mamba_d_ssm": 96, "mamba_rms_norm": True},
    "bamba": _MAMBA_2 | {"attn_layer_indices": [1]},
    "granitemoehybrid": _MAMBA_2
    | {
        "layer_types": ["mamba", "attention"] * 2,
        "num_local_experts": 5,
        "num_experts_per_tok": 2,
        "shared_intermediate_size": 28,
    },
    "jamba": _WIDE
    | {
        "num_experts": 5,
        "num_experts_per_tok": 2,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "mamba_dt_rank": 5,
        "mamba_d_state": 6,
    },
    "qwen3_next": _WIDE
    | _EXPERTS
    | {
        "num_experts": 5,
        "shared_expert_intermediate_size": 32,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 16,
    },
    "lfm2": _WIDE | {"layer_types": ["conv", "full_attention"] * 2},
}
"""By `model_type`: what CONFIG_MAPPING's class is made of."""
VARIANTS: dict[str, tuple[str, Config]] = {
    "falcon, second generation": ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon, one norm": (
        "falcon",
        {"new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 1},
    ),
    "falcon, every head": ("falcon", {"multi_query": False, "parallel_attn": False, "bias": True}),
    "gpt_bigcode, every head": ("gpt_bigcode", {"multi_query": False}),
    "stablelm, first generation": ("stablelm", {"qk_layernorm": False, "use_parallel_residual": False}),
    "opt, norm after": ("opt", {"do_layer_norm_before": False}),
    "llama with biases": ("llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "gpt2, untied": ("gpt2", {"tie_word_embeddings": False, "n_inner": 64}),
    "cohere with norms": ("cohere", {"use_qk_norm": True}),
    "phimoe with biases": ("phimoe", {"attention_bias": True, "lm_head_bias": True}),
    "qwen3_moe, every second layer": ("qwen3_moe", {"decoder_sparse_step": 2, "mlp_only_layers": []}),
    "lfm2, by indices": ("lfm2", {"layer_types": None, "full_attn_idxs": [2], "conv_bias": True}),
    "mamba with biases": ("mamba", {"use_bias": True, "use_conv_bias": False}),
    "qwen2 with windows": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 12, "max_window_layers": 2},
    ),
}
"""Fields that make a family's checkpoints differ."""
