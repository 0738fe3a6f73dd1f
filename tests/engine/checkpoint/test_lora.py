"""Adapters are hostile files: whatever does not fit, or is not merged, is refused with its cause."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.checkpoint import inspect_folder, look_at
from engine.errors import CheckpointError, DamagedCheckpoint, UnsafeCheckpoint, UnsupportedModel
from engine.plan import footprint_of
from tests.engine.checkpoint.making import Shapes, checkpoint, safetensors

Q = "base_model.model.model.layers.0.self_attn.q_proj"
HEAD = "base_model.model.lm_head"
SOUND: Shapes = {f"{Q}.lora_A.weight": (4, 16), f"{Q}.lora_B.weight": (16, 4)}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return checkpoint(tmp_path / "base")


def adapter(folder: Path, shapes: Shapes | None = None, dtype: str = "F32", **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    said = {"peft_type": "LORA", "r": 4, "lora_alpha": 8} | config
    (folder / "adapter_config.json").write_text(json.dumps(said))
    (folder / "adapter_model.safetensors").write_bytes(safetensors(shapes or SOUND, dtype))
    return folder


def test_a_sound_adapter_says_where_it_goes_and_by_which_factor(base: Path, tmp_path: Path) -> None:
    verdict = inspect_folder(base, adapter=adapter(tmp_path / "lora"))
    assert verdict.adapter is not None
    (pair,) = verdict.adapter.pairs
    assert (pair.target, pair.scale) == ("model.layers.0.self_attn.q_proj.weight", 2.0)
    assert verdict.warnings[0] == "LoRA r4 (lora) is merged into 1 weights of its base model."
    assert look_at(base, tmp_path / "lora").adapter == verdict.adapter


def test_the_plan_counts_merged_weights_as_rewritten(base: Path, tmp_path: Path) -> None:
    merged = footprint_of(inspect_folder(base, adapter=adapter(tmp_path / "lora")))
    alone = footprint_of(inspect_folder(base))
    assert merged.weight_bytes == alone.weight_bytes
    assert sum(m.rewritten_bytes for m in merged.modules) > sum(m.rewritten_bytes for m in alone.modules)


@pytest.mark.parametrize(
    ("said", "scale"),
    [
        ({"use_rslora": True}, 4.0),
        ({"alpha_pattern": {"self_attn.q_proj": 2}}, 0.5),
        ({"alpha_pattern": {"^model.layers.0.self_attn.q_proj": 2}}, 0.5),
        ({"alpha_pattern": {"^q_proj": 2, "k_proj": 2}}, 2.0),
        ({"r": 9, "rank_pattern": {"q_proj": 4}}, 2.0),
    ],
)
def test_factors_differ_as_the_configuration_says(
    base: Path, tmp_path: Path, said: dict[str, Any], scale: float
) -> None:
    verdict = inspect_folder(base, adapter=adapter(tmp_path / "lora", **said))
    assert verdict.adapter is not None
    assert verdict.adapter.pairs[0].scale == scale


@pytest.mark.parametrize(
    ("said", "title"),
    [
        ({"peft_type": "IA3"}, "only LoRA"),
        ({"use_dora": True}, "DoRA"),
        ({"layer_replication": [[0, 1]]}, "copied layers"),
        ({"init_lora_weights": "pissa"}, "begun by pissa"),
        ({"init_lora_weights": ["pissa"]}, "begun by"),
        ({"alora_invocation_tokens": [1]}, "activated LoRA"),
        ({"rank_pattern": {"(a+)+$": 4}}, "expression"),
    ],
)
def test_ways_that_are_not_merged_are_named(
    base: Path, tmp_path: Path, said: dict[str, Any], title: str
) -> None:
    with pytest.raises(UnsupportedModel, match=title):
        inspect_folder(base, adapter=adapter(tmp_path / "lora", **said))


@pytest.mark.parametrize(
    "shapes",
    [
        {f"{Q}.lora_A.weight": (4, 16)},
        {f"{Q}.lora_A.weight": (4, 16), f"{Q}.lora_B.weight": (16, 3)},
        {f"{Q}.lora_A.weight": (4, 8), f"{Q}.lora_B.weight": (16, 4)},
        {f"{Q}.lora_A.weight": (4, 16), f"{Q}.lora_B.weight": (16, 4, 1)},
        {f"{Q}.lora_A.weight": (5, 16), f"{Q}.lora_B.weight": (16, 5)},
        {f"{Q}.lora_A.weight": (0, 16), f"{Q}.lora_B.weight": (16, 0)},
        SOUND | {f"{HEAD}.weight": (63, 16)},
        {f"{HEAD}.weight": (64, 16)},
    ],
)
def test_matrices_that_do_not_fit_are_refused(base: Path, tmp_path: Path, shapes: Shapes) -> None:
    with pytest.raises(DamagedCheckpoint):
        inspect_folder(base, adapter=adapter(tmp_path / "lora", shapes))


@pytest.mark.parametrize(
    "name", ["model.nowhere", "model.layers.7.self_attn.q_proj", "../../q_proj", "layers", "\x1b[2J"]
)
def test_modules_that_the_base_lacks_are_named(base: Path, tmp_path: Path, name: str) -> None:
    parts: Shapes = {"lora_A.weight": (4, 16), "lora_B.weight": (16, 4)}
    shapes = {f"base_model.model.{name}.{part}": shape for part, shape in parts.items()}
    with pytest.raises(UnsupportedModel, match="stores no weight") as refused:
        inspect_folder(base, adapter=adapter(tmp_path / "lora", shapes))
    assert "\x1b" not in str(refused.value)


@pytest.mark.parametrize("name", [f"{Q}.lora_magnitude_vector", f"{Q}.lora_B.bias", "q_proj.weight"])
def test_other_tensors_are_never_ignored(base: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsupportedModel, match="no matrix of LoRA"):
        inspect_folder(base, adapter=adapter(tmp_path / "lora", SOUND | {name: (16,)}))


@pytest.mark.parametrize("said", [{"r": "4"}, {"r": None}, {"lora_alpha": True}, {"lora_alpha": 1e300}])
def test_figures_that_cannot_be_are_refused(base: Path, tmp_path: Path, said: dict[str, Any]) -> None:
    with pytest.raises(DamagedCheckpoint):
        inspect_folder(base, adapter=adapter(tmp_path / "lora", **said))


@pytest.mark.parametrize("figure", ["NaN", "Infinity", "-Infinity"])
def test_factors_that_are_no_numbers_are_refused(base: Path, tmp_path: Path, figure: str) -> None:
    folder = adapter(tmp_path / "lora")
    said = f'{{"peft_type": "LORA", "r": 4, "lora_alpha": {figure}}}'
    (folder / "adapter_config.json").write_text(said)
    with pytest.raises(DamagedCheckpoint):
        inspect_folder(base, adapter=folder)


def test_matrices_of_whole_numbers_are_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="I32"):
        inspect_folder(base, adapter=adapter(tmp_path / "lora", dtype="I32"))


def test_pickles_are_refused_with_what_to_do(base: Path, tmp_path: Path) -> None:
    folder = adapter(tmp_path / "lora")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(UnsafeCheckpoint, match="a pickle") as refused:
        inspect_folder(base, adapter=folder)
    assert "safe_serialization" in refused.value.hint


def test_weights_that_lead_out_of_the_folder_are_refused(base: Path, tmp_path: Path) -> None:
    folder, elsewhere = adapter(tmp_path / "lora"), adapter(tmp_path / "other")
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.safetensors").symlink_to(elsewhere / "adapter_model.safetensors")
    with pytest.raises(DamagedCheckpoint, match="leads out"):
        inspect_folder(base, adapter=folder)


def test_a_packed_base_is_refused(tmp_path: Path) -> None:
    base = checkpoint(tmp_path / "base", quantization_config={"quant_method": "fp8"})
    with pytest.raises(CheckpointError, match="fp8"):
        inspect_folder(base, adapter=adapter(tmp_path / "lora"))
