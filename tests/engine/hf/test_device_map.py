"""A placement reaches the model: every parameter lies where the plan, or the person's own map, says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace
from transformers import AutoConfig, AutoModelForCausalLM

from engine.checkpoint import inspect_folder
from engine.commands import LoadModel, PlanLoad
from engine.errors import DoesNotFit, InvalidValue
from engine.events import ModelLoaded
from engine.hf.backend import HFBackend
from engine.hf.device_map import device_map, resting_places
from engine.hf.kv import KEPT_STATES
from engine.plan import footprint_of, need, placement_for
from engine.values import Budget, BudgetRequest, Fits, ModelRef, Placement, Strategy, Tier
from tests import tiny_models
from tests.engine.hf.talk import Talk, never

GIB = 1 << 30
FAMILIES = ("llama", "qwen3", "qwen3_moe", "gpt2", "bloom", "gemma2")


def skeleton(folder: Path) -> Any:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))


def planned(folder: Path, *pairs: tuple[str, str], gpus: int = 2) -> Placement:
    budgets = (
        *(Budget(device=f"gpu:{at}", free_bytes=8 * GIB, uuid=f"GPU-{at}") for at in range(gpus)),
        Budget(device="ram", free_bytes=8 * GIB),
        Budget(device="disk", free_bytes=8 * GIB),
    )
    wishes: dict[str, Any] = {"strategy": Strategy.CUSTOM, "device_map": pairs} if pairs else {}
    return placement_for(footprint_of(inspect_folder(folder)), budgets, 128, **wishes)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_and_buffer_has_a_place(family: str) -> None:
    folder = tiny_models.checkpoint(family)
    model = skeleton(folder)
    names = [layer.name for layer in planned(folder).layers]
    middle = names[len(names) // 2]
    placement = planned(folder, ("", "1"), (middle, "cpu"))
    places = resting_places(model, device_map(placement, model))
    assert set(places) == {
        name
        for found in (
            model.named_parameters(remove_duplicate=False),
            model.named_buffers(remove_duplicate=False),
        )
        for name, _ in found
    }
    inside = {device for name, device in places.items() if name.startswith(f"{middle}.")}
    assert inside == {"ram"}
    parameters = dict(model.named_parameters(remove_duplicate=False))
    outside = {places[name] for name in parameters if not name.startswith(f"{middle}.")}
    assert outside == {"gpu:1"}


@pytest.mark.parametrize("family", ["qwen3", "gpt2", "bloom", "gemma2"])
def test_a_tied_head_is_mapped_beside_its_embedding(family: str) -> None:
    folder = tiny_models.checkpoint(family)
    tied = [layer for layer in planned(folder).layers if layer.name == "lm_head"]
    (embedding,) = (
        name for name in (m.name for m in footprint_of(inspect_folder(folder)).modules) if _embeds(name)
    )
    placement = planned(folder, ("", "0"), (embedding, "1"), *((("lm_head", "1"),) if tied else ()))
    model = skeleton(folder)
    places = resting_places(model, device_map(placement, model))
    assert places["lm_head.weight"] == places[f"{embedding}.weight"] == "gpu:1"


def _embeds(name: str) -> bool:
    return name.rpartition(".")[2] in {"embed_tokens", "wte", "word_embeddings"}


def test_one_device_is_the_whole_map() -> None:
    folder = tiny_models.checkpoint("llama")
    assert device_map(planned(folder, ("", "gpu:1")), skeleton(folder)) == {"": 1}
    assert device_map(planned(folder, ("", "cpu")), skeleton(folder)) == {"": "cpu"}


def load(folder: Path, budgets: BudgetRequest, *pairs: tuple[str, str]) -> ModelLoaded:
    backend = HFBackend()
    command = LoadModel(
        model=ModelRef(name="tiny", folder=folder),
        budgets=budgets,
        strategy=Strategy.CUSTOM,
        device_map=pairs,
    )
    try:
        return backend.load(command, lambda _: None, never)
    finally:
        backend.unload()


def test_a_map_of_the_persons_own_is_loaded_as_written(tmp_path: Path) -> None:
    folder = tiny_models.checkpoint("llama")
    loaded = load(folder, BudgetRequest(disk_folder=tmp_path), ("", "cpu"), ("model.layers.2", "disk"))
    places = {layer.name: layer.tier for layer in loaded.placement.layers}
    assert places.pop("model.layers.2") is Tier.DISK
    assert set(places.values()) == {Tier.CPU}
    assert loaded.placement.strategy is Strategy.CUSTOM
    assert loaded.placement.fits is Fits.DISK


def test_a_wrong_map_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    folder = tiny_models.checkpoint("llama")
    with pytest.raises(InvalidValue, match=r"model\.layer\.2"):
        load(folder, BudgetRequest(disk_folder=tmp_path), ("", "cpu"), ("model.layer.2", "disk"))


def test_a_ready_made_plan_that_no_longer_fits_is_refused() -> None:
    folder = tiny_models.checkpoint("llama")
    backend = HFBackend()
    model = ModelRef(name="tiny", folder=folder)
    placement = backend.plan(PlanLoad(model=model)).placement
    backend.load(LoadModel(model=model, placement=placement), lambda _: None, never)
    too_large = placement_for(
        footprint_of(inspect_folder(folder)), (Budget(device="ram", free_bytes=1 << 50),), 128
    )
    (ram, disk) = too_large.devices
    swollen = replace(too_large, devices=(replace(ram, weight_bytes=1 << 49), disk))
    with pytest.raises(DoesNotFit, match="as of now"):
        backend.load(LoadModel(model=model, placement=swollen), lambda _: None, never)
    backend.unload()


def test_a_plan_counts_the_present_model_as_free(tmp_path: Path) -> None:
    talk = Talk(tiny_models.checkpoint("llama"))
    again = talk.backend.plan(PlanLoad(model=talk.loaded.model, budgets=BudgetRequest(disk_folder=tmp_path)))
    assert again.placement.fits is Fits.GPU_RAM
    assert {ledger.device for ledger in talk.inner.ledgers()} == {"ram"}
    talk.backend.unload()


def test_the_plan_counts_the_copies_that_the_engine_keeps() -> None:
    assert need.KEPT_STATES == KEPT_STATES
