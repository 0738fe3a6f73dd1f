from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.checkpoint import inspect_folder
from engine.errors import UnsupportedModel
from engine.guide import FOLDER
from engine.hub import LocalModel, count_parameters, list_models
from engine.hub.places import all_places, huggingface_caches, modelscope_caches
from engine.values import Hub
from tests.engine.checkpoint.making import checkpoint, sharded


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Both hubs' caches, empty, in a folder of the test's own."""
    monkeypatch.delenv("HUGGINGFACE_HUB_CACHE", raising=False)
    monkeypatch.delenv("HF_HOME", raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "ms"))
    return tmp_path


def listed(*folders: Path) -> list[LocalModel]:
    return [model for model in list_models(folders) if model.ref.name != "guide"]


def only(folder: Path) -> LocalModel:
    (model,) = listed(folder)
    return model


def test_a_folder_may_be_a_model_or_hold_models_one_or_two_levels_deep(tmp_path: Path) -> None:
    root = tmp_path / "models"
    checkpoint(root / "one")
    checkpoint(root / "Owner" / "two")
    (root / "empty").mkdir()
    assert [model.ref.name for model in listed(root)] == ["one", "Owner/two"]
    assert only(root / "one").ref.folder == root / "one"


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert listed(tmp_path / "nowhere") == []


def test_a_model_says_what_it_is(tmp_path: Path) -> None:
    model = only(checkpoint(tmp_path / "m"))
    assert (model.architecture, model.format, model.context_window) == ("LlamaForCausalLM", "bf16", 128)
    assert model.weight_bytes == (tmp_path / "m" / "model.safetensors").stat().st_size
    assert model.modified_at > 0
    assert model.problem == ""
    assert count_parameters(tmp_path / "m") > 0


def test_the_guide_comes_first_once_it_is_there(tmp_path: Path) -> None:
    names = [model.ref.name for model in list_models((checkpoint(tmp_path / "a"),))]
    assert names == (["guide", "a"] if (FOLDER / "config.json").exists() else ["a"])


def test_a_model_found_by_two_ways_is_listed_once(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "models" / "m")
    (tmp_path / "models" / "same").symlink_to(folder)
    assert len(listed(tmp_path / "models", folder)) == 1


def hugging_face_model(cache: Path, repo_id: str, revision: str) -> Path:
    return checkpoint(cache / f"models--{repo_id.replace('/', '--')}" / "snapshots" / revision)


def test_the_hugging_face_cache_is_listed_by_its_main_snapshot(caches: Path) -> None:
    hugging_face_model(caches / "hf", "Owner/m", "0000")
    hugging_face_model(caches / "hf", "Owner/m", "1111")
    refs = caches / "hf" / "models--Owner--m" / "refs"
    refs.mkdir()
    (refs / "main").write_text("0000")
    (caches / "hf" / "datasets--Owner--d" / "snapshots").mkdir(parents=True)
    (caches / "hf" / "models--Owner--nothing").mkdir()
    (model,) = listed()
    assert (model.ref.name, model.ref.hub, model.ref.revision) == ("Owner/m", Hub.HUGGINGFACE, "0000")


@pytest.mark.parametrize(
    "path", ["hub/models/Owner/m2___5", "hub/Owner/m2___5", "models/Owner/m2___5", "Owner/m2___5"]
)
def test_every_layout_of_the_modelscope_cache_is_listed(caches: Path, path: str) -> None:
    folder = checkpoint(caches / "ms" / path)
    link = folder.with_name("m2.5")
    link.symlink_to(folder.name)
    (model,) = listed()
    assert (model.ref.repo_id, model.ref.hub) == ("Owner/m2.5", Hub.MODELSCOPE)


def test_the_caches_are_where_the_hubs_variables_put_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert huggingface_caches() == (tmp_path / "hf",)
    monkeypatch.delenv("HF_HUB_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert huggingface_caches() == (tmp_path / "xdg" / "huggingface" / "hub",)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    assert huggingface_caches() == (tmp_path / "home" / "hub",)
    monkeypatch.delenv("MODELSCOPE_CACHE")
    assert modelscope_caches()[0] == Path.home() / ".cache" / "modelscope" / "hub" / "models"


def adapter(folder: Path, **config: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "adapter_model.safetensors").write_bytes(bytes(5000))
    return folder


def test_an_adapter_is_listed_with_its_base_and_what_to_do_with_it(tmp_path: Path) -> None:
    said = {"peft_type": "LORA", "r": 16, "base_model_name_or_path": "Qwen/Qwen3-8B"}
    found = only(adapter(tmp_path / "mine", **said))
    assert (found.ref.name, found.format, found.weight_bytes) == ("mine", "LoRA r16", 5000)
    assert "LoRA adapter for Qwen/Qwen3-8B" in found.problem
    assert "`vramble pull hf:Qwen/Qwen3-8B`" in found.problem
    with pytest.raises(UnsupportedModel, match="LoRA adapter for Qwen/Qwen3-8B"):
        inspect_folder(tmp_path / "mine")


@pytest.mark.parametrize("said", [{}, {"peft_type": 3, "r": "x", "base_model_name_or_path": ["\x1b"]}])
def test_an_adapter_that_says_nonsense_is_listed_too(tmp_path: Path, said: dict[str, Any]) -> None:
    found = only(adapter(tmp_path / "mine", **said))
    assert (found.format, "\x1b" in found.problem) == ("peft", False)
    assert found.problem


@pytest.mark.parametrize("has_peft", [True, False])
def test_an_adapter_beside_a_model_is_never_applied_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_peft: bool
) -> None:
    monkeypatch.setattr("engine.checkpoint.adapter.is_installed", lambda _: has_peft)
    folder = checkpoint(tmp_path / "m")
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "../../elsewhere"}')
    if has_peft:
        with pytest.raises(UnsupportedModel, match="peft would apply it unasked"):
            inspect_folder(folder)
    else:
        assert "An adapter lies beside the model, and is not applied." in inspect_folder(folder).warnings


def without_weights(folder: Path, **config: Any) -> Path:
    (checkpoint(folder, **config) / "model.safetensors").unlink()
    return folder


def test_pickles_are_listed_with_the_reason_why_not(tmp_path: Path) -> None:
    folder = without_weights(tmp_path / "m")
    (folder / "pytorch_model.bin").write_bytes(bytes(77))
    model = only(folder)
    assert (model.format, model.weight_bytes) == ("pickle", 77)
    assert "pickles" in model.problem


def test_a_folder_without_weights_says_so(tmp_path: Path) -> None:
    assert "no safetensors" in only(without_weights(tmp_path / "m")).problem


def test_missing_shards_are_counted(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "m", 3)
    assert only(folder).problem == ""
    (folder / "model-00002-of-00003.safetensors").unlink()
    assert only(folder).problem == "1 of 3 shards are missing."


def test_weights_without_a_known_name_are_none(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "consolidated.safetensors")
    assert "Neither" in only(folder).problem


def test_a_pointer_instead_of_weights_is_noticed(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "m")
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    assert "Git LFS pointer" in only(folder).problem


def test_a_dangling_link_instead_of_weights_is_noticed(tmp_path: Path) -> None:
    folder = without_weights(tmp_path / "m")
    (folder / "model.safetensors").symlink_to("nowhere")
    assert "missing" in only(folder).problem


@pytest.mark.parametrize(
    ("config", "form", "problem"),
    [
        ({"torch_dtype": None}, "", ""),
        ({"torch_dtype": "float8_e4m3fn"}, "float8_e4m3fn", ""),
        ({"quantization_config": {"quant_method": "made_up", "bits": 4}}, "made_up 4-bit", "made_up needs"),
        ({"quantization_config": {"quant_method": "fp8"}}, "fp8", ""),
        ({"model_type": "bert", "architectures": ["BertModel"]}, "bf16", "BertModel cannot be run here"),
    ],
)
def test_the_format_and_what_speaks_against_it(
    tmp_path: Path, config: dict[str, Any], form: str, problem: str
) -> None:
    model = only(checkpoint(tmp_path / "m", **config))
    assert model.format == form
    assert model.problem.startswith(problem)
    assert bool(model.problem) == bool(problem)


def test_a_config_that_cannot_be_read_is_a_problem_not_a_crash(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "m")
    (folder / "config.json").write_text("{")
    model = only(folder)
    assert "config.json" in model.problem
    assert model.weight_bytes > 0


def test_places_are_found_in_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        checkpoint(tmp_path / "models" / name)
    names = [ref.name for ref in all_places((tmp_path / "models",)) if ref.name != "guide"]
    assert names == ["a", "b", "c"]


def test_five_hundred_models_are_listed_in_a_blink(tmp_path: Path) -> None:
    root = tmp_path / "models"
    weights = checkpoint(root / "m000") / "model.safetensors"
    for number in range(1, 500):
        folder = root / f"m{number:03}"
        folder.mkdir()
        (folder / "config.json").write_bytes((root / "m000" / "config.json").read_bytes())
        (folder / "model.safetensors").hardlink_to(weights)
    list_models()
    fastest = min(_seconds(root) for _ in range(5))
    assert fastest <= 0.6  # 0.3 s on a machine that does nothing else


def _seconds(root: Path) -> float:
    started = time.thread_time()
    assert len(listed(root)) == 500
    return time.thread_time() - started


@pytest.mark.parametrize("closed", ["scandir", "stat"])
def test_a_folder_that_may_not_be_read_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    checkpoint(tmp_path / "models" / "a")
    secret = checkpoint(tmp_path / "models" / "b")
    really: Callable[..., object] = getattr(os, closed)

    def refusing(path: os.PathLike[str] | str | int = ".", *rest: Any, **named: Any) -> object:
        if not isinstance(path, int) and str(path).startswith(str(secret)) and str(path) != f"{secret}":
            raise PermissionError(13, "Permission denied")
        if closed == "scandir" and str(path) == str(secret):
            raise PermissionError(13, "Permission denied")
        return really(path, *rest, **named)

    monkeypatch.setattr(os, closed, refusing)
    names = [model.ref.name for model in listed(tmp_path / "models")]
    assert "a" in names
