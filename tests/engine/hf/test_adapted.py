"""Old repositories without their code: logits, talks, plans and tiers of the native classes that stand in."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.checkpoint import inspect_folder, look_at
from engine.commands import Inspect, PlanLoad
from engine.errors import DamagedCheckpoint, DoesNotFit
from engine.hf.adapted import require_offload_room
from engine.hf.backend import HFBackend
from engine.hf.dryrun import dry_run
from engine.hf.load import Source, load_model
from engine.hf.progress import Progress
from engine.hf.tokenizer import load_tokenizer
from engine.plan import footprint_of
from engine.values import ModelRef, Quantization, SamplingParams
from tests.engine.hf.old_models import LAYERS, MARKER, OLD, make_old, weights_of
from tests.engine.hf.talk import Talk, in_ram, never, on_disk, quantized

LISTS = dict.fromkeys(OLD, "model.layers") | {"moss": "transformer.h"}
IN_PLACE = ("chatglm2", "baichuan", "moss")
LONG = SamplingParams(temperature=0.0, max_new_tokens=12)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    parent = tmp_path_factory.mktemp("old")
    return {name: make_old(name, parent) for name in OLD}


def logits(talk: Talk, ids: torch.Tensor) -> torch.Tensor:
    placed: Any = talk.backend._placed
    with torch.inference_mode():
        found: torch.Tensor = placed.model(input_ids=ids[None]).logits[0]
    return found


def expected(name: str, ids: torch.Tensor) -> torch.Tensor:
    return OLD[name].forward(weights_of(name), OLD[name].config, ids)


@pytest.mark.parametrize("name", OLD)
def test_logits_and_greedy_replies_are_those_of_the_old_layout(name: str, folders: dict[str, Path]) -> None:
    talk = Talk(folders[name], in_ram())
    ids = torch.arange(3, 60)
    assert (logits(talk, ids) - expected(name, ids)).abs().max() < 1e-4
    assert talk.loaded.architecture == OLD[name].native
    talk.ask("你好 hello", LONG)
    prompt, cached = talk.prompt_ids(), talk.cached
    assert cached[: len(prompt)] == prompt
    chosen = expected(name, torch.tensor(cached)).argmax(-1)[len(prompt) - 1 :]
    assert cached[len(prompt) :] == chosen.tolist()[:-1]
    again = talk.ask("and then?", LONG)
    assert again.started.reused_tokens >= len(prompt)
    assert not (folders[name] / MARKER).exists()


@pytest.mark.parametrize("name", IN_PLACE)
def test_layers_on_disk_are_read_where_the_old_files_have_them(
    name: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    talk = Talk(folders[name], on_disk(LISTS[name], range(LAYERS), tmp_path / "offload"))
    placed: Any = talk.backend._placed
    assert not placed.uses_hooks
    assert len(placed.tier.names) >= LAYERS
    ids = torch.arange(3, 60)
    assert (logits(talk, ids) - expected(name, ids)).abs().max() < 1e-4
    assert footprint_of(inspect_folder(folders[name])).is_in_place
    talk.backend.unload()


def test_rows_in_turns_are_rewritten_for_the_disk_and_the_plan_says_so(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    talk = Talk(folders["internlm2"], on_disk("model.layers", range(LAYERS), tmp_path / "offload"))
    assert any("accelerate's hooks" in note for note in talk.loaded.notes)
    ids = torch.arange(3, 60)
    assert (logits(talk, ids) - expected("internlm2", ids)).abs().max() < 1e-4
    for blueprint in (None, dry_run(folders["internlm2"])):
        footprint = footprint_of(inspect_folder(folders["internlm2"]), blueprint=blueprint)
        assert not footprint.is_in_place
        assert all(module.rewritten_bytes == module.plain_bytes for module in footprint.modules)
    talk.backend.unload()


def test_renamed_weights_that_would_not_fit_on_the_disk_are_refused_beforehand(
    folders: dict[str, Path],
) -> None:
    verdict = inspect_folder(folders["chatglm2"])
    places = {tensor.name: "disk" for tensor in verdict.tensors}
    require_offload_room(verdict, dict.fromkeys(places, "ram"), None)
    with pytest.raises(DoesNotFit, match="written anew"):
        require_offload_room(verdict, places, None)


@pytest.mark.parametrize("name", OLD)
def test_a_dry_run_of_the_native_class_agrees_with_the_headers(name: str, folders: dict[str, Path]) -> None:
    verdict = inspect_folder(folders[name])
    seen = footprint_of(verdict, blueprint=dry_run(folders[name]))
    told = footprint_of(verdict)
    buffers = sum(module.plain_bytes for module in seen.modules) - told.weight_bytes
    assert 0 <= buffers < 0.2 * told.weight_bytes
    assert seen.parameters == told.parameters == verdict.parameters
    assert {m.name for m in told.modules} <= {m.name for m in seen.modules}
    planned = HFBackend().plan(PlanLoad(model=ModelRef(name=name, folder=folders[name])))
    assert {layer.name for layer in planned.placement.layers} >= {m.name for m in told.modules}


@pytest.mark.parametrize("name", ["chatglm3", "internlm2"])
def test_old_weights_are_quantized_on_load(name: str, folders: dict[str, Path]) -> None:
    talk = Talk(folders[name], quantized(Quantization.INT8))
    placed: Any = talk.backend._placed
    assert talk.ask("hello").finished.usage.completion_tokens > 0
    assert "Linear8bitLt" in {type(module).__name__ for module in placed.model.modules()}


def test_check_25_no_code_of_an_old_repository_runs(folders: dict[str, Path]) -> None:
    for name, folder in folders.items():
        told = HFBackend().inspect(Inspect(folder=folder))
        assert told.architecture == OLD[name].native
        assert any(f"modeling_{OLD[name].code}.py" in warning for warning in told.warnings)
        assert look_at(folder) == inspect_folder(folder)
        load_tokenizer(folder)
        load_model(Source(inspect_folder(folder)), in_ram(), None, Progress(lambda _: None, never))
        assert not (folder / MARKER).exists()
    loaded = (str(getattr(module, "__file__", "")) for module in list(sys.modules.values()))
    assert not any(str(folder) in file for folder in folders.values() for file in loaded)


def test_packed_rows_that_the_config_does_not_tell_apart_are_refused(tmp_path: Path) -> None:
    folder = make_old("chatglm2", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"multi_query_group_num": 1}))
    with pytest.raises(DamagedCheckpoint, match=r"query_key_value.bias is 64, and config.json says 48"):
        inspect_folder(folder)


def test_a_missing_packed_tensor_is_named_by_its_native_parts(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    folder = make_old("baichuan", tmp_path)
    weights = weights_of("baichuan")
    del weights["model.layers.1.self_attn.W_pack.weight"]
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(DamagedCheckpoint, match=r"layers\.1\.self_attn\.k_proj"):
        Talk(folder, in_ram())
