from __future__ import annotations

from typing import Any

import pytest

from engine.checkpoint.attention import latent_width, layer_types, linear_state
from engine.checkpoint.fields import Fields

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
    ],
)
def test_every_layer_has_its_kind(config: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert layer_types(Fields(config), 4) == expected


def test_latent_attention_caches_the_latent_and_the_rotary_key() -> None:
    assert latent_width(Fields({"kv_lora_rank": 512, "qk_rope_head_dim": 64})) == 576
    assert latent_width(Fields({})) == 0


@pytest.mark.parametrize(
    ("config", "elements"),
    [
        (
            {
                "linear_num_key_heads": 2,
                "linear_num_value_heads": 4,
                "linear_key_head_dim": 8,
                "linear_value_head_dim": 16,
                "linear_conv_kernel_dim": 4,
            },
            4 * 8 * 16 + (2 * 2 * 8 + 4 * 16) * 4,
        ),
        ({"mamba_d_state": 16, "hidden_size": 8, "mamba_expand": 2}, 16 * (16 + 4)),
        ({"conv_L_cache": 3, "hidden_size": 8}, 24),
        ({"hidden_size": 8, "head_dim": 4}, 32),
    ],
)
def test_the_state_of_linear_attention_does_not_grow(config: dict[str, Any], elements: int) -> None:
    assert linear_state(Fields(config)) == elements
