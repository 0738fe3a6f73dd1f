"""Weights that rest in RAM: read into memory of their own, or left where they are mapped, and never twice."""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, modeling_utils

from engine.checkpoint import inspect_folder
from engine.commands import LoadModel
from engine.errors import DamagedCheckpoint, LoadCancelled
from engine.events import Event, LoadProgress
from engine.hf import backend as hf_backend
from engine.hf.backend import HFBackend
from engine.hf.dryrun import dry_run
from engine.hf.tiers import slabs
from engine.hf.tiers.direct import Extent, Read
from engine.hf.tiers.in_place import InPlace, in_place
from engine.hf.tiers.residency import PageCache
from engine.hf.views import built
from engine.plan import footprint_of, place
from engine.values import LoadStage, ModelRef, Strategy, Tier
from tests import tiny_models
from tests.engine.hf.talk import Talk, in_ram, never, on_disk

SHAPE: dict[str, Any] = {"hidden_size": 512, "intermediate_size": 4096}


@pytest.fixture
def cold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PageCache, "holds", lambda *_: False)


@pytest.fixture
def warm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PageCache, "holds", lambda *_: True)


def command(folder: Path) -> LoadModel:
    return LoadModel(model=ModelRef(name="tiny", folder=folder), placement=in_ram())


def private_bytes() -> int:
    gc.collect()
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_Dirty"))


def parameters(folder: Path, talk: Talk) -> None:
    stored = load_file(folder / "model.safetensors")
    for name, parameter in talk.inner.runner._model.named_parameters():
        assert torch.equal(parameter, stored[name]), name


@pytest.mark.usefixtures("cold")
def test_a_cold_model_is_read_once_into_memory_of_its_own(tmp_path: Path) -> None:
    folder = tiny_models.make("llama", tmp_path, **SHAPE)
    size = inspect_folder(folder).weight_bytes
    Talk(tiny_models.checkpoint("llama")).backend.unload()
    before = private_bytes()
    talk = Talk(folder)
    held = private_bytes() - before
    assert 0.95 * size <= held <= size + (100 << 20)
    assert talk.inner.weights.mapped_bytes == 0
    assert str(folder) not in Path("/proc/self/maps").read_text()
    parameters(folder, talk)
    talk.backend.unload()
    assert private_bytes() - before < 0.2 * size + (40 << 20)


@pytest.mark.usefixtures("warm")
def test_a_cached_model_is_used_where_it_is_mapped() -> None:
    talk = Talk(tiny_models.checkpoint("llama"))
    weights = talk.inner.weights
    assert weights.mapped_bytes > 0.99 * weights.by_device["ram"]
    talk.backend.unload()


def mappings_of(folder: Path) -> set[str]:
    """Where this process has a model's weights mapped, for other tests, too."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    return {line for line in maps if line.endswith(str(folder / "model.safetensors"))}


@pytest.mark.usefixtures("warm")
def test_a_cached_model_is_mapped_once_and_built_on_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modeling_utils, "safe_open", None)
    folder = tiny_models.checkpoint("llama")
    gc.collect()
    before = mappings_of(folder)
    talk = Talk(folder)
    parameters(folder, talk)
    assert len(mappings_of(folder) - before) == 1
    talk.backend.unload()
    assert mappings_of(folder) <= before


@pytest.mark.usefixtures("warm")
def test_cached_tensors_that_begin_at_odd_bytes_are_copied(tmp_path: Path) -> None:
    folder = tiny_models.make("llama", tmp_path)
    whole = (folder / "model.safetensors").read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = whole[8 : 8 + length] + b" "
    (folder / "model.safetensors").write_bytes(
        len(header).to_bytes(8, "little") + header + whole[8 + length :]
    )
    assert all(tensor.start % 2 for tensor in inspect_folder(folder).tensors)
    talk = Talk(folder)
    parameters(folder, talk)
    talk.backend.unload()


def test_of_two_files_one_is_mapped_and_the_other_read_for_a_model_that_is_built_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = sharded(tiny_models.make("llama", tmp_path))
    builds: list[object] = []

    def counted(*arguments: Any) -> Any:
        builds.append(built(*arguments))
        return builds[-1]

    def is_first(_: PageCache, extents: Sequence[Extent]) -> bool:
        return extents[0].file.name == "model-1.safetensors"

    monkeypatch.setattr(PageCache, "holds", is_first)
    monkeypatch.setattr("engine.hf.load.built", counted)
    talk = Talk(folder)
    weights = talk.inner.weights
    assert len(builds) == 1
    assert 0 < weights.mapped_bytes < weights.by_device["ram"]
    stored = load_file(folder / "model-1.safetensors") | load_file(folder / "model-2.safetensors")
    for name, parameter in talk.inner.runner._model.named_parameters():
        assert torch.equal(parameter, stored[name]), name
    talk.backend.unload()


def sharded(folder: Path) -> Path:
    """Cut a checkpoint's file in two."""
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    files = {name: f"model-{1 + (at >= len(names) // 2)}.safetensors" for at, name in enumerate(names)}
    for file in set(files.values()):
        part = {name: weights[name] for name in names if files[name] == file}
        save_file(part, folder / file, metadata={"format": "pt"})
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return folder


@pytest.mark.usefixtures("warm")
def test_beside_layers_on_disk_the_others_are_in_ram_whatever_is_cached(tmp_path: Path) -> None:
    talk = Talk(tiny_models.checkpoint("llama"), on_disk("model.layers", range(2), tmp_path))
    assert talk.inner.weights.mapped_bytes == 0
    assert talk.inner.weights.by_device["ram"] > 0
    parameters(tiny_models.checkpoint("llama"), talk)
    talk.backend.unload()


@pytest.mark.usefixtures("cold")
def test_progress_counts_what_has_arrived(tmp_path: Path) -> None:
    folder = tiny_models.make("llama", tmp_path, **SHAPE)
    told: list[Event] = []
    backend = HFBackend()
    backend.load(command(folder), told.append, never)
    backend.unload()
    reached = [e.done_bytes for e in told if isinstance(e, LoadProgress) and e.stage is LoadStage.READ]
    assert reached == sorted(reached)
    assert reached[0] == 0
    assert reached[-1] >= inspect_folder(folder).weight_bytes


@pytest.mark.usefixtures("cold")
def test_a_cancel_does_not_wait_for_a_slow_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped_at: list[float] = []

    def cancelled() -> bool:
        return bool(stopped_at)

    def lingering(self: Read, seconds: float) -> bool:
        stopped_at.append(time.monotonic())
        time.sleep(seconds)
        return False

    monkeypatch.setattr(Read, "wait", lingering)
    with pytest.raises(LoadCancelled):
        HFBackend().load(command(tiny_models.checkpoint("llama")), lambda _: None, cancelled)
    assert len(stopped_at) == 1
    assert slabs.POLL_SECONDS <= 0.1


@pytest.mark.usefixtures("cold")
def test_check_39_a_file_that_becomes_shorter_while_it_is_loaded_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_models.make("llama", tmp_path)

    def shorten(_placement: object) -> None:
        os.truncate(folder / "model.safetensors", (folder / "model.safetensors").stat().st_size // 2)

    monkeypatch.setattr(hf_backend, "require_gpus", shorten)
    with pytest.raises(DamagedCheckpoint):
        HFBackend().load(command(folder), lambda _: None, never)


def found(folder: Path, disk: tuple[str, ...] = ()) -> InPlace | None:
    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    return in_place(skeleton, inspect_folder(folder).tensors, disk)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2", "bloom", "gpt_neox"])
def test_what_is_stored_as_it_is_computed_is_found_whatever_it_is_called(family: str) -> None:
    folder = tiny_models.checkpoint(family)
    whole = found(folder)
    assert whole is not None
    assert set(whole.ram_tensors) == set(inspect_folder(folder).tensors)


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_the_plan_knows_without_torch_what_can_be_used_as_it_is_stored(family: str) -> None:
    folder = tiny_models.checkpoint(family)
    for blueprint in (None, dry_run(folder)):
        footprint = footprint_of(inspect_folder(folder), blueprint=blueprint)
        assert footprint.is_in_place is (found(folder) is not None)


@pytest.mark.parametrize("family", ["llama", "mixtral"])
def test_the_plan_says_before_what_the_load_says_of_hooks(family: str, tmp_path: Path) -> None:
    folder = tiny_models.checkpoint(family)
    everything = (("", "disk"),)
    plan = place(folder, strategy=Strategy.CUSTOM, device_map=everything)
    loaded = Talk(folder, on_disk("model.layers", range(4), tmp_path, others=Tier.DISK))
    told = [any("accelerate" in line for line in lines) for lines in (plan.reasons, loaded.loaded.notes)]
    assert told == [family == "mixtral"] * 2
    loaded.backend.unload()


def test_experts_that_must_be_stacked_are_not_in_place() -> None:
    assert found(tiny_models.checkpoint("mixtral")) is None


def test_weights_of_another_dtype_are_not_in_place(tmp_path: Path) -> None:
    folder = tiny_models.make("llama", tmp_path)
    file = folder / "model.safetensors"
    halved = {name: tensor.half() for name, tensor in load_file(file).items()}
    save_file(halved, file, metadata={"format": "pt"})
    assert found(folder) is None
    assert not footprint_of(inspect_folder(folder)).is_in_place
    talk = Talk(folder, on_disk("model.layers", range(4), tmp_path / "offload"))
    assert any("accelerate" in note for note in talk.loaded.notes)
    talk.backend.unload()


def test_a_tied_head_in_ram_keeps_the_embedding_there() -> None:
    folder = tiny_models.checkpoint("qwen3")
    embedding = "model.embed_tokens.weight"
    kept = found(folder, ("embed_tokens", "layers.0"))
    assert kept is not None
    assert kept.disk_paths == ("model.embed_tokens", "model.layers.0")
    names = {tensor.name for tensor in kept.ram_tensors}
    assert embedding in names
    assert not any(name.startswith("model.layers.0.") for name in names)
    gone = found(folder, ("embed_tokens", "layers.0", "lm_head"))
    assert gone is not None
    assert embedding not in {tensor.name for tensor in gone.ram_tensors}
