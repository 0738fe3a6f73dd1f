"""Broken and hostile config.json files: a verdict or a clear sentence, at once, and never anything else."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.checkpoint import look_at
from engine.errors import CheckpointError, EngineError
from engine.plan import footprint_of
from tests.engine.published import PUBLISHED, REMOTE
from tests.engine.tiny_configs import TINY

SECONDS = 2.0
"""Of the processor, which other work on the machine does not stretch."""
GOOD: dict[str, dict[str, Any]] = {
    **{family: fields | {"model_type": family} for family, fields in TINY.items()},
    **{
        name: (PUBLISHED | REMOTE)[name]
        for name in ("Llama-3-8B", "DeepSeek-V2-Lite", "MOSS-16B", "ChatGLM3-6B")
    },
}
KEYS = sorted({key for config in GOOD.values() for key in config} | {"text_config", "rope_scaling"})
NUMBERS = st.one_of(
    st.integers(-3, 9),
    st.sampled_from((10**6, 2**24, 2**31, 2**40, 2**63, 10**30, -(10**30))),
    st.floats(),
)
SCALARS = st.one_of(NUMBERS, st.none(), st.booleans(), st.text(max_size=8), st.just("full_attention"))
VALUES = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=6),
    st.dictionaries(st.sampled_from(KEYS), SCALARS, max_size=4),
)


def judged(folder: Path, content: str) -> str:
    """The sentence that refuses a config.json; empty when it can be planned with."""
    (folder / "config.json").write_text(content, encoding="utf-8")
    before = time.process_time()
    try:
        footprint = footprint_of(look_at(folder))
        assert footprint.kv_bytes(4096) >= 0
        assert footprint.activation_bytes(4096) > 0
        sentence = ""
    except EngineError as error:
        sentence = error.message
    assert time.process_time() - before < SECONDS
    return sentence


@given(
    name=st.sampled_from(sorted(GOOD)),
    changes=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3),
    lost=st.lists(st.sampled_from(KEYS), max_size=2),
)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_config_is_planned_or_refused_with_a_sentence(
    tmp_path: Path, name: str, changes: dict[str, Any], lost: list[str]
) -> None:
    config = {key: value for key, value in (GOOD[name] | changes).items() if key not in lost}
    sentence = judged(tmp_path, json.dumps(config))
    assert not sentence or (sentence[0].isupper() or sentence.startswith("config.json"))
    assert len(sentence) < 600


@pytest.mark.parametrize("name", sorted(GOOD))
def test_what_is_whole_is_planned(name: str, tmp_path: Path) -> None:
    assert judged(tmp_path, json.dumps(GOOD[name])) == ""


LLAMA = PUBLISHED["Llama-3-8B"]


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": None},
        {"num_hidden_layers": -32},
        {"num_hidden_layers": 10**6},
        {"num_hidden_layers": "32"},
        {"num_hidden_layers": float("nan")},
        {"hidden_size": 2**40},
        {"hidden_size": 4097},
        {"hidden_size": None},
        {"num_attention_heads": 0},
        {"num_attention_heads": 33},
        {"num_key_value_heads": 7},
        {"vocab_size": 2**40},
        {"vocab_size": float("inf")},
        {"intermediate_size": -1},
        {"intermediate_size": 2**24, "hidden_size": 2**24, "head_dim": 128},
        {"layer_types": ["full_attention"] * 5},
        {"model_type": "mixtral", "num_local_experts": 10**9},
        {"model_type": "never_heard_of", "architectures": ["NeverHeardOf"]},
        {"model_type": None, "architectures": None},
    ],
)
def test_what_cannot_be_true_is_named(changes: dict[str, Any], tmp_path: Path) -> None:
    sentence = judged(tmp_path, json.dumps(LLAMA | changes))
    assert sentence.startswith("config.json") or "made of" in sentence
    assert sentence.endswith(".")


def nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


@pytest.mark.parametrize(
    "content",
    [
        "",
        "null",
        "[]",
        '"config"',
        "{",
        nested(100_000),
        "[" * 100_000,
        '{"num_hidden_layers": ' + "9" * 10_000 + "}",
        "<!doctype html>",
        "version https://git-lfs.github.com/spec/v1",
        json.dumps(LLAMA | {"layer_types": ["x"] * 500_000}),
        json.dumps(GOOD["qwen3_moe"] | {"mlp_only_layers": list(range(500_000)), "num_hidden_layers": 1000}),
        json.dumps(GOOD["glm4_moe"] | {"mlp_layer_types": ["x"] * 500_000, "num_hidden_layers": 1000}),
        json.dumps(LLAMA | {"text_config": {"a": {}}, "rope_scaling": [[]]}),
    ],
    ids=lambda content: content[:20],
)
def test_bombs_and_impostors_end_quickly(content: str, tmp_path: Path) -> None:
    judged(tmp_path, content)


def test_a_folder_that_is_a_file_or_not_there_is_named(tmp_path: Path) -> None:
    for folder in (tmp_path / "none", tmp_path / "file"):
        if folder.name == "file":
            folder.write_text("x")
        with pytest.raises(CheckpointError):
            look_at(folder)
