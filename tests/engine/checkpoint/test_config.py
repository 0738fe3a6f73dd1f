from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.checkpoint.config import DEFAULT_CONTEXT_WINDOW, ModelConfig, parse_config, read_config
from engine.checkpoint.generation import sampling_defaults, token_ids
from engine.errors import DamagedCheckpoint
from engine.values import SamplingParams
from tests.engine.checkpoint.making import LLAMA, checkpoint, write_json


def parsed(
    generation: dict[str, Any] | None = None, tokenizer: dict[str, Any] | None = None, **config: Any
) -> ModelConfig:
    fields = {name: value for name, value in (LLAMA | config).items() if value is not None}
    return parse_config(fields, generation or {}, tokenizer or {}, has_template=False)


def test_a_llama_is_read(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path)
    write_json(
        folder / "generation_config.json", {"do_sample": True, "temperature": 0.6, "eos_token_id": [7, 2]}
    )
    assert read_config(folder) == ModelConfig(
        architecture="LlamaForCausalLM",
        model_type="llama",
        layers=2,
        hidden_size=16,
        heads=4,
        kv_heads=2,
        head_dim=4,
        intermediate_size=32,
        vocab_size=64,
        context_window=128,
        dtype="bfloat16",
        layer_types=("full_attention", "full_attention"),
        eos_token_ids=(7, 2),
        sampling=SamplingParams(temperature=0.6),
        has_chat_template=True,
    )


def test_older_names_of_fields_are_known() -> None:
    config = {
        "vocab_size": 9,
        "n_embd": 8,
        "n_layer": 3,
        "n_head": 2,
        "n_positions": 64,
        "model_type": "gpt2",
    }
    model = parse_config(config, {}, {}, has_template=True)
    assert (model.layers, model.hidden_size, model.heads, model.head_dim) == (3, 8, 2, 4)
    assert (model.context_window, model.intermediate_size) == (64, 32)


def test_the_language_models_part_comes_before_the_outer_one() -> None:
    inner = {"hidden_size": 32, "num_hidden_layers": 5}
    model = parsed(text_config=inner)
    assert (model.hidden_size, model.layers, model.vocab_size) == (32, 5, 64)


@pytest.mark.parametrize(
    "field",
    [
        {"num_hidden_layers": -1},
        {"num_hidden_layers": 0},
        {"num_hidden_layers": 10**9},
        {"num_hidden_layers": "2"},
        {"num_hidden_layers": True},
        {"num_hidden_layers": 2.5},
        {"num_hidden_layers": None},
        {"num_attention_heads": 0},
        {"num_attention_heads": 17},
        {"num_attention_heads": None},
        {"num_key_value_heads": -2},
        {"num_key_value_heads": 5},
        {"hidden_size": 10**12},
        {"hidden_size": [16]},
        {"vocab_size": -64},
        {"vocab_size": None},
        {"head_dim": 0},
        {"max_position_embeddings": -1},
        {"rope_scaling": {"rope_type": "yarn", "factor": 1e300}},
        {"rope_scaling": {"rope_type": "yarn", "factor": "many"}},
        {"rope_scaling": {"rope_type": "linear", "factor": float("inf")}},
        {"layer_types": ["full_attention"]},
        {"quantization_config": {"quant_method": "gptq", "bits": 900}},
    ],
)
def test_check_29_what_cannot_be_true_is_refused_with_a_sentence(field: dict[str, Any]) -> None:
    with pytest.raises(DamagedCheckpoint, match=r"^config\.json (says|does not say|stretches|names)"):
        parsed(**field)


def test_a_whole_number_may_be_written_as_a_float() -> None:
    assert parsed(num_hidden_layers=2.0).layers == 2


@pytest.mark.parametrize(
    ("fields", "tokenizer", "window"),
    [
        ({}, {}, 128),
        ({"max_position_embeddings": None, "n_ctx": 77}, {}, 77),
        ({"max_position_embeddings": None}, {"model_max_length": 512}, 512),
        ({"max_position_embeddings": None}, {"model_max_length": 10**30}, DEFAULT_CONTEXT_WINDOW),
        ({"max_position_embeddings": None}, {"model_max_length": "long"}, DEFAULT_CONTEXT_WINDOW),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}}, {}, 512),
        (
            {"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 16}},
            {},
            128,
        ),
        ({"rope_scaling": "nonsense"}, {}, 128),
    ],
)
def test_the_context_window(fields: dict[str, Any], tokenizer: dict[str, Any], window: int) -> None:
    assert parsed(tokenizer=tokenizer, **fields).context_window == window


@pytest.mark.parametrize(
    ("fields", "kv_heads"),
    [
        ({"num_key_value_heads": None}, 4),
        ({"num_key_value_heads": None, "multi_query": True}, 1),
        ({"num_key_value_heads": None, "multi_query": True, "new_decoder_architecture": False}, 1),
        ({"num_key_value_heads": None, "num_kv_heads": 2, "multi_query": True}, 2),
    ],
)
def test_key_and_value_heads(fields: dict[str, Any], kv_heads: int) -> None:
    assert parsed(**fields).kv_heads == kv_heads


def test_experts_that_a_token_passes_add_up() -> None:
    fields: dict[str, Any] = {"moe_intermediate_size": 30, "num_experts_per_tok": 4, "n_shared_experts": 1}
    assert parsed(**fields).intermediate_size == 150


def test_a_model_without_attention_needs_no_heads() -> None:
    model = parsed(model_type="mamba", num_attention_heads=None, num_key_value_heads=None, state_size=4)
    assert (model.heads, set(model.layer_types)) == (1, {"linear_attention"})
    assert (model.linear_state, model.convolution_state) == (32 * 4, 32 * 4)


@pytest.mark.parametrize(
    ("quantization", "method", "bits"),
    [
        (None, "", 0),
        ({}, "", 0),
        ({"quant_method": "GPTQ", "bits": 4}, "gptq", 4),
        ({"quant_method": "awq", "w_bit": 4}, "awq", 4),
        ({"something": 1}, "unknown", 0),
    ],
)
def test_how_weights_are_stored(quantization: object, method: str, bits: int) -> None:
    model = parsed(quantization_config=quantization)
    assert (model.quantization, model.quantization_bits) == (method, bits)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, False),
        ({"chat_template.jinja": "x"}, True),
        ({"chat_template.json": "{}"}, True),
        ({"tokenizer_config.json": '{"chat_template": ""}'}, False),
        ({"tokenizer_config.json": '{"chat_template": [{"name": "default"}]}'}, True),
    ],
)
def test_a_chat_template_is_found_wherever_it_lies(
    tmp_path: Path, files: dict[str, str], expected: bool
) -> None:
    folder = checkpoint(tmp_path)
    (folder / "tokenizer_config.json").unlink()
    for name, content in files.items():
        (folder / name).write_text(content)
    assert read_config(folder).has_chat_template is expected


@pytest.mark.parametrize(
    ("generation", "sampling"),
    [
        ({}, SamplingParams(temperature=0.0)),
        ({"do_sample": False, "temperature": 0.7, "top_p": 0.9}, SamplingParams(temperature=0.0)),
        ({"temperature": 0.7, "top_k": 20}, SamplingParams(temperature=0.7, top_k=20)),
        ({"do_sample": True, "top_p": 0.8}, SamplingParams(top_p=0.8)),
        ({"do_sample": True, "temperature": -3, "top_k": "many", "top_p": 0.5}, SamplingParams(top_p=0.5)),
        ({"do_sample": True, "temperature": float("nan"), "min_p": True}, SamplingParams()),
        ({"do_sample": True, "top_k": 10**400}, SamplingParams()),
        ({"repetition_penalty": 1.1}, SamplingParams(temperature=0.0, repetition_penalty=1.1)),
    ],
)
def test_the_checkpoints_own_sampling(generation: dict[str, object], sampling: SamplingParams) -> None:
    assert sampling_defaults(generation) == sampling


def test_only_token_ids_are_token_ids() -> None:
    assert token_ids([1, "2", True, -1, 3.0, None, 4]) == (1, 4)
    assert token_ids(5) == (5,)
    assert token_ids(None) == ()


_leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
_value = _leaf | st.lists(_leaf, max_size=3) | st.dictionaries(st.text(max_size=5), _leaf, max_size=3)
_NAMES = (
    *LLAMA,
    *("head_dim", "rope_scaling", "sliding_window", "layer_types", "quantization_config", "text_config"),
    *("kv_lora_rank", "mamba_d_state", "linear_num_value_heads", "attn_layer_period", "multi_query"),
    *("sliding_window_pattern", "conv_L_cache", "moe_intermediate_size", "num_experts_per_tok"),
)


@given(changes=st.dictionaries(st.sampled_from(_NAMES), _value, max_size=4))
def test_any_config_is_read_or_refused(changes: dict[str, Any]) -> None:
    try:
        model = parsed(**changes)
    except DamagedCheckpoint:
        return
    assert model.layers >= 1
    assert len(model.layer_types) == model.layers
