"""An adapter is one model with its base, which it chooses among those on this disk and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.errors import UnsafeCheckpoint, UnsupportedModel
from engine.hub import LocalModel, find_model, list_models
from engine.plan import place
from tests.engine.checkpoint.making import Shapes, checkpoint, safetensors

Q = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.fixture(autouse=True)
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models with a base, beside empty caches."""
    monkeypatch.delenv("HUGGINGFACE_HUB_CACHE", raising=False)
    monkeypatch.delenv("HF_HOME", raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "ms"))
    checkpoint(tmp_path / "models" / "Owner" / "base")
    return tmp_path / "models"


def adapter(folder: Path, base: object, **config: object) -> Path:
    folder.mkdir(parents=True)
    said = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "base_model_name_or_path": base}
    (folder / "adapter_config.json").write_text(json.dumps(said | config))
    shapes: Shapes = {f"{Q}.lora_A.weight": (4, 16), f"{Q}.lora_B.weight": (16, 4)}
    (folder / "adapter_model.safetensors").write_bytes(safetensors(shapes))
    return folder


def listed(library: Path, name: str) -> LocalModel:
    (model,) = (model for model in list_models((library,)) if model.ref.name == name)
    return model


@pytest.mark.parametrize("by", ["name", "folder", "case"])
def test_an_adapter_stands_on_the_base_that_it_names(library: Path, by: str) -> None:
    base = library / "Owner" / "base"
    named = {"name": "Owner/base", "folder": str(base), "case": "owner/BASE"}[by]
    folder = adapter(library / "mine", named)
    model = listed(library, "mine")
    assert (model.ref.folder, model.ref.adapter, model.ref.place) == (base, folder, folder)
    assert (model.problem, model.architecture) == ("", "LlamaForCausalLM")
    assert model.format.startswith("LoRA r4 of ")
    assert model.weight_bytes > listed(library, "Owner/base").weight_bytes
    assert find_model("mine", (library,)) == model.ref
    assert find_model(str(folder), (library,)).adapter == folder
    assert place(base, adapter=folder).layers


def test_a_base_in_a_hubs_cache_is_found_by_its_repository(library: Path, tmp_path: Path) -> None:
    base = checkpoint(tmp_path / "hf" / "models--Some--model" / "snapshots" / "0000")
    adapter(library / "mine", "Some/model")
    assert listed(library, "mine").ref.folder == base


@pytest.mark.parametrize(
    "base", ["../elsewhere/m", "elsewhere/m", "/etc", "{elsewhere}", "", "base", "guide", 3, None, "/", ".."]
)
def test_it_leads_to_nothing_that_is_not_listed(library: Path, tmp_path: Path, base: object) -> None:
    elsewhere = checkpoint(tmp_path / "elsewhere" / "m")
    named = str(elsewhere) if base == "{elsewhere}" else base
    folder = adapter(library / "mine", named)
    model = listed(library, "mine")
    assert (model.ref.folder, model.ref.adapter) == (folder, None)
    assert "LoRA adapter" in model.problem
    with pytest.raises(UnsupportedModel, match="LoRA adapter"):
        place(find_model("mine", (library,)).folder)


def test_an_adapter_is_no_base(library: Path) -> None:
    adapter(library / "Owner" / "first", "Owner/second")
    adapter(library / "Owner" / "second", "Owner/first")
    assert listed(library, "Owner/first").ref.adapter is None


def test_a_base_that_is_missing_can_be_got(library: Path) -> None:
    model = listed(adapter(library / "mine", "Some/where").parent, "mine")
    assert "`vramble pull hf:Some/where` gets its base model." in model.problem


def test_what_is_not_merged_is_listed_with_the_reason(library: Path) -> None:
    adapter(library / "mine", "Owner/base", use_dora=True)
    assert "DoRA" in listed(library, "mine").problem


def test_an_adapter_in_a_pickle_is_listed_and_refused(library: Path) -> None:
    folder = adapter(library / "mine", "Owner/base")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    model = listed(library, "mine")
    assert "a pickle" in model.problem
    with pytest.raises(UnsafeCheckpoint):
        place(model.ref.folder, adapter=model.ref.adapter)
