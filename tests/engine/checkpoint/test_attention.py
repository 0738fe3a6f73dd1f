from __future__ import annotations

from typing import Any

import pytest

from engine.checkpoint.attention import kv_heads, latent_width, layer_types, linear_state
from engine.checkpoint.fields import Fields
from engine.errors import DamagedCheckpoint

FULL, SLIDING, LINEAR = "full_attention", "sliding_attention", "linear_attention"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, (FULL,) * 4),
        ({"layer_types": [SLIDING, FULL, LINEAR, FULL, FULL]}, (SLIDING, FULL, LINEAR, FULL)),
        (
            {"layers_block_type": ["mamba", "attention", "recurrent", "hybrid"]},
            (LINEAR, FULL, LINEAR, "hybrid"),
        ),
        ({"model_type": "gemma2", "sliding_window": 8}, (SLIDING, FULL, SLIDING, FULL)),
        ({"sliding_window_pattern": 4, "sliding_window": 8}, (SLIDING, SLIDING, SLIDING, FULL)),
        ({"sliding_window": 8}, (SLIDING,) * 4),
        ({"sliding_window": 8, "use_sliding_window": False}, (FULL,) * 4),
        ({"sliding_window": 8, "max_window_layers": 3}, (FULL, FULL, FULL, SLIDING)),
        ({"full_attention_interval": 2}, (LINEAR, FULL, LINEAR, FULL)),
        ({"attn_layer_period": 3, "attn_layer_offset": 1}, (LINEAR, FULL, LINEAR, LINEAR)),
        ({"attn_layer_indices": [0, 3]}, (FULL, LINEAR, LINEAR, FULL)),
        ({"model_type": "mamba"}, (LINEAR,) * 4),
        ({"model_type": "falcon_h1"}, ("hybrid",) * 4),
        ({"full_attn_idxs": [1]}, ("conv", FULL, "conv", "conv")),
        ({"sliding_window": 8, "sliding_window_pattern": "LLLG"}, (SLIDING, SLIDING, SLIDING, FULL)),
        ({"model_type": "exaone4", "sliding_window": None}, (FULL,) * 4),
        ({"model_type": "qwen3", "sliding_window": 8}, (FULL,) * 4),
        ({"num_kv_shared_layers": 2}, (FULL, FULL, "shared", "shared")),
    ],
)
def test_every_layer_has_its_kind(config: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert layer_types(Fields(config), 4) == expected


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, 8),
        ({"num_key_value_heads": 2}, 2),
        ({"multi_query": True}, 1),
        ({"model_type": "falcon"}, 1),
        ({"model_type": "falcon", "multi_query": False}, 8),
        ({"model_type": "falcon", "new_decoder_architecture": True, "num_kv_heads": 2}, 8),
        ({"multi_query_attention": True, "multi_query_group_num": 2}, 2),
    ],
)
def test_cached_heads_are_those_that_transformers_keeps(config: dict[str, Any], expected: int) -> None:
    assert kv_heads(Fields(config), 8) == expected


def test_key_value_heads_that_do_not_divide_the_heads_are_refused() -> None:
    with pytest.raises(DamagedCheckpoint, match="do not divide"):
        kv_heads(Fields({"num_key_value_heads": 3}), 8)


def test_latent_attention_caches_the_latent_and_the_rotary_key() -> None:
    assert latent_width(Fields({"kv_lora_rank": 512, "qk_rope_head_dim": 64})) == 576
    assert latent_width(Fields({})) == 0


@pytest.mark.parametrize(
    ("config", "recurrent", "convolution"),
    [
        (
            {
                "linear_num_key_heads": 2,
                "linear_num_value_heads": 4,
                "linear_key_head_dim": 8,
                "linear_value_head_dim": 16,
                "linear_conv_kernel_dim": 4,
            },
            4 * 8 * 16,
            (2 * 2 * 8 + 4 * 16) * 4,
        ),
        ({"mamba_d_state": 16, "hidden_size": 8, "mamba_expand": 2}, 16 * 16, 16 * 4),
        ({"mamba_d_state": 16, "hidden_size": 8, "mamba_n_groups": 2}, 16 * 16, (16 + 2 * 2 * 16) * 4),
        ({"conv_L_cache": 3, "hidden_size": 8}, 0, 24),
        ({"hidden_size": 8, "head_dim": 4}, 32, 0),
    ],
)
def test_the_state_of_linear_attention_does_not_grow(
    config: dict[str, Any], recurrent: int, convolution: int
) -> None:
    assert linear_state(Fields(config)) == (recurrent, convolution)
