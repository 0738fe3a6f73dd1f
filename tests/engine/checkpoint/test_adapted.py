"""What config.json of an old repository becomes, and why some cannot be carried; without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.checkpoint import inspect_folder, look_at, read_config
from engine.checkpoint.adapted import family_of, native_config, refusal
from engine.errors import UnsafeCheckpoint
from engine.hub.local import list_models
from tests.engine.checkpoint.making import LLAMA, safetensors, write_json
from tests.engine.published import CHATGLM, CHATGLM_2, MOSS

INTERNLM = LLAMA | {"model_type": "internlm", "architectures": ["InternLMForCausalLM"]}
INTERNLM_2 = LLAMA | {"model_type": "internlm2", "architectures": ["InternLM2ForCausalLM"], "bias": False}
BAICHUAN = LLAMA | {"model_type": "baichuan", "architectures": ["BaiChuanForCausalLM"]}
BAICHUAN_2 = BAICHUAN | {"architectures": ["BaichuanForCausalLM"], "hidden_size": 4096}
BAICHUAN_13B = BAICHUAN_2 | {"hidden_size": 5120, "num_attention_heads": 40, "num_key_value_heads": 40}


def folder_of(config: dict[str, Any], folder: Path, weights: bytes = b"") -> Path:
    folder.mkdir(exist_ok=True)
    write_json(folder / "config.json", config)
    (folder / "modeling_own.py").write_text("raise SystemExit('it ran')")
    (folder / "model.safetensors").write_bytes(weights or safetensors({"x": (600,)}))
    return folder


def test_chatglm_2_becomes_glm(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", CHATGLM_2)
    model = read_config(tmp_path)
    assert (model.model_type, model.architecture, model.dtype) == ("glm", "GlmForCausalLM", "float16")
    assert (model.layers, model.heads, model.kv_heads, model.head_dim) == (28, 32, 2, 128)
    assert (model.intermediate_size, model.vocab_size, model.context_window) == (13696, 65024, 32768)
    assert model.has_chat_template
    assert native_config(CHATGLM_2)["rope_parameters"] == {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.5,
    }


def test_a_stretched_chatglm_3_gets_a_wider_base() -> None:
    long = CHATGLM_2 | {"_name_or_path": "THUDM/chatglm3-6b-32k", "rope_ratio": 50}
    rotation: Any = native_config(long)["rope_parameters"]
    assert rotation["rope_theta"] == 500_000.0
    family = family_of(long)
    assert family
    assert family.title == "ChatGLM3"


def test_internlm_has_biases_unless_it_says_otherwise() -> None:
    assert native_config(INTERNLM)["attention_bias"] is True
    assert native_config(INTERNLM | {"bias": False})["attention_bias"] is False
    assert native_config(INTERNLM_2)["attention_bias"] is False


@pytest.mark.parametrize(
    ("scaling", "rotation"),
    [
        (None, {"rope_type": "default", "rope_theta": 1e6}),
        ({"type": "dynamic", "factor": 2.0}, {"rope_type": "default", "rope_theta": 1e6}),
        ({"type": "linear", "factor": 4.0}, {"rope_type": "linear", "rope_theta": 1e6, "factor": 4.0}),
    ],
)
def test_a_linear_stretch_is_kept_and_a_dynamic_one_begins_beyond_the_window(
    scaling: object, rotation: object
) -> None:
    config = INTERNLM_2 | {"rope_theta": 1e6, "rope_scaling": scaling}
    assert native_config(config)["rope_parameters"] == rotation


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (CHATGLM, "both directions"),
        (BAICHUAN_13B, "ALiBi"),
        (BAICHUAN_2, "normalizes the rows of its head"),
        (CHATGLM_2 | {"padded_vocab_size": 151552}, "one of tiktoken's"),
        (CHATGLM_2 | {"quantization_bit": 4}, "quantization_bit to 4"),
        (CHATGLM_2 | {"multi_query_attention": False}, "multi_query_attention to False"),
        (CHATGLM_2 | {"rope_ratio": 16}, "rope_ratio to 16"),
        (MOSS | {"wbits": 4}, "wbits to 4"),
    ],
)
def test_what_no_native_class_computes_would_need_its_own_code_and_says_why(
    config: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    folder = folder_of(config, tmp_path / "old")
    assert family_of(config) is None
    assert native_config(config) == config
    with pytest.raises(UnsafeCheckpoint, match=reason):
        inspect_folder(folder)
    (listed,) = [model for model in list_models((tmp_path,)) if model.ref.folder == folder]
    assert listed.runs_code or reason in listed.problem
    (folder / "model.safetensors").unlink()
    if "quantization_bit" not in config:
        assert any(reason in warning for warning in look_at(folder).warnings)


@pytest.mark.parametrize("config", [CHATGLM_2, MOSS, INTERNLM, INTERNLM_2, BAICHUAN])
def test_the_list_of_models_shows_the_native_class_and_no_problem(
    config: dict[str, Any], tmp_path: Path
) -> None:
    folder = folder_of(config, tmp_path / "old")
    (listed,) = [model for model in list_models((tmp_path,)) if model.ref.folder == folder]
    family = family_of(config)
    assert family
    assert (listed.problem, listed.architecture) == ("", family.native_class)
    assert not refusal(config)


@pytest.mark.parametrize("architecture", ["InternLM2ForRewardModel", "InternLM2ForSequenceClassification"])
def test_another_architecture_of_an_old_family_is_another_model(architecture: str) -> None:
    assert family_of(INTERNLM_2 | {"architectures": [architecture]}) is None


def test_other_configs_are_left_alone() -> None:
    assert native_config(LLAMA) is LLAMA
    assert json.dumps(native_config({})) == "{}"
