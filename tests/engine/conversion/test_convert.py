"""Pickles to safetensors: equal tensors, nothing run, nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from engine.checkpoint import inspect_folder, read_tensors
from engine.checkpoint.files import read_json
from engine.conversion import convert, convert_pickles, pickles_of
from engine.conversion.child import convert as convert_here
from engine.conversion.staging import FOLDER, Staging
from engine.errors import (
    DamagedCheckpoint,
    DiskFull,
    DownloadBusy,
    EngineDied,
    NotACheckpoint,
    UnsafeCheckpoint,
    UnsupportedModel,
)
from engine.hf import unpickle
from tests import tiny_models

Tensors = dict[str, torch.Tensor]


def pickled(folder: Path, family: str = "llama", parts: int = 1) -> tuple[Path, Tensors]:
    """A tiny checkpoint whose weights are pickles, and what they hold."""
    shutil.copytree(tiny_models.checkpoint(family), folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = list(weights)
    if parts == 1:
        torch.save(weights, folder / "pytorch_model.bin")
        return folder, weights
    weight_map: dict[str, str] = {}
    for number in range(parts):
        file = f"pytorch_model-{number + 1:05}-of-{parts:05}.bin"
        part = {name: weights[name] for name in names[number::parts]}
        torch.save(part, folder / file)
        weight_map |= dict.fromkeys(part, file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder, weights


def same(folder: Path, weights: Tensors) -> bool:
    files = {tensor.file for tensor in read_tensors(folder)}
    found: Tensors = {}
    for file in files:
        found |= load_file(file)
    return found.keys() == weights.keys() and all(torch.equal(found[name], weights[name]) for name in found)


def never(_told: object) -> None:
    return


class Hostile:
    """Runs a command when it is unpickled in the usual way."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


def test_a_pickle_becomes_safetensors_with_equal_tensors_in_a_process_without_network(tmp_path: Path) -> None:
    folder, weights = pickled(tmp_path / "old")
    (folder / "pytorch_model.bin").chmod(0o640)
    told: list[Any] = []
    made = convert_pickles(folder, told.append)
    assert made.files == ("model.safetensors",)
    assert made.tensors == len(weights)
    assert told[-1].done_bytes <= told[-1].total_bytes
    assert same(folder, weights)
    assert stat.S_IMODE((folder / "model.safetensors").stat().st_mode) == 0o640
    assert not (folder / FOLDER).exists()
    assert inspect_folder(folder).weight_bytes == sum(tensor.nbytes for tensor in weights.values())
    if os.geteuid() == 0:
        assert made.has_no_network


def test_check_26_a_hostile_pickle_runs_nothing_and_is_named(tmp_path: Path) -> None:
    folder, weights = pickled(tmp_path / "old")
    canary = tmp_path / "canary"
    torch.save({**weights, "x": Hostile(f"touch {canary}")}, folder / "pytorch_model.bin")
    before = sorted(os.listdir(folder))
    with pytest.raises(UnsafeCheckpoint, match=r"pytorch_model.bin asks to call posix.system"):
        convert_pickles(folder, never)
    assert not canary.exists()
    assert sorted(os.listdir(folder)) == before


def test_a_process_that_is_killed_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = pickled(tmp_path / "old", parts=2)
    before = sorted(os.listdir(folder))
    spawn = convert._spawn

    def doomed(where: Path) -> Any:
        process = spawn(where)
        assert process.stdout is not None
        line = process.stdout.readline()  # the first part is written
        assert b"ConvertProgress" in line
        os.kill(process.pid, signal.SIGKILL)
        return process

    monkeypatch.setattr(convert, "_spawn", doomed)
    with pytest.raises(EngineDied, match="signal 9"):
        convert_pickles(folder, never)
    assert sorted(os.listdir(folder)) == before


def test_a_process_whose_parent_is_gone_cleans_up_or_is_done(tmp_path: Path) -> None:
    folder, weights = pickled(tmp_path / "old", parts=2)
    before = sorted(os.listdir(folder))
    process = convert._spawn(folder)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()
    process.stdin.close()
    process.wait(30)
    process.stdout.close()
    assert sorted(os.listdir(folder)) == before or same(folder, weights)
    assert not (folder / FOLDER).exists()


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_what_a_dead_process_left_is_taken_back_by_the_next(tmp_path: Path, moved: int) -> None:
    folder, weights = pickled(tmp_path / "old", parts=2)
    left = folder / FOLDER
    left.mkdir()
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "the index"]
    (left / "names.json").write_text(json.dumps(names))
    for number, name in enumerate(names):
        (folder if number < moved else left).joinpath(name).write_bytes(b"unfinished")
    Staging(folder).sweep()
    assert not left.exists()
    assert pickles_of(folder).files == (
        "pytorch_model-00001-of-00002.bin",
        "pytorch_model-00002-of-00002.bin",
    )
    convert_here(pickles_of(folder), never)
    assert same(folder, weights)


def test_large_weights_are_written_in_several_files_with_an_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, weights = pickled(tmp_path / "old", parts=2)
    monkeypatch.setattr(unpickle.parts_of, "__defaults__", (40_000,))
    made = convert_here(pickles_of(folder), never)
    assert len(made.files) > 2
    assert set(read_json(folder, "model.safetensors.index.json")) == {"metadata", "weight_map"}
    assert same(folder, weights)


def test_a_tied_head_is_written_once_and_other_shared_memory_for_each_name(tmp_path: Path) -> None:
    folder, weights = pickled(tmp_path / "tied", "qwen3")
    embedding = weights["model.embed_tokens.weight"]
    whole = torch.arange(20.0).reshape(5, 4)
    extra = {"lm_head.weight": embedding, "a": whole, "b": whole, "c": whole[1:3], "d": whole.t()}
    torch.save(weights | extra | {"step": 7}, folder / "pytorch_model.bin")
    made = convert_here(pickles_of(folder), never)
    assert set(made.left_out) == {"lm_head.weight", "step"}
    del extra["lm_head.weight"]
    assert same(folder, weights | extra)


def test_a_head_that_config_does_not_tie_is_kept(tmp_path: Path) -> None:
    folder, weights = pickled(tmp_path / "old")
    both = weights | {"lm_head.weight": weights["model.embed_tokens.weight"]}
    torch.save(both, folder / "pytorch_model.bin")
    assert convert_here(pickles_of(folder), never).left_out == ()
    assert same(folder, both)


def test_the_old_format_of_torch_is_read_too(tmp_path: Path) -> None:
    folder, weights = pickled(tmp_path / "old")
    torch.save(weights, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    convert_here(pickles_of(folder), never)
    assert same(folder, weights)


def test_a_pickle_that_unfolds_to_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    folder, _ = pickled(tmp_path / "old")
    torch.save({"a": torch.zeros(1).expand(1 << 40)}, folder / "pytorch_model.bin")
    with pytest.raises(DamagedCheckpoint, match="has far fewer"):
        convert_here(pickles_of(folder), never)
    assert not (folder / FOLDER).exists()


def test_a_truncated_pickle_is_named(tmp_path: Path) -> None:
    folder, _ = pickled(tmp_path / "old")
    os.truncate(folder / "pytorch_model.bin", 5000)
    with pytest.raises(DamagedCheckpoint, match=r"pytorch_model\.bin cannot be read"):
        convert_here(pickles_of(folder), never)


def test_a_full_disk_is_noticed_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = pickled(tmp_path / "old")
    usage = shutil.disk_usage(folder)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DiskFull, match="1,000 are free"):
        convert_pickles(folder, never)
    assert not (folder / FOLDER).exists()


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    folder, _ = pickled(tmp_path / "old")
    staging = Staging(folder)
    staging.open()
    with pytest.raises(DownloadBusy):
        convert_here(pickles_of(folder), never)
    staging.discard()


def test_what_is_not_a_model_in_pickles_is_refused(tmp_path: Path) -> None:
    folder, _ = pickled(tmp_path / "old")
    os.rename(folder / "pytorch_model.bin", folder / "optimizer.pt")
    with pytest.raises(UnsupportedModel, match=r"optimizer\.pt is not what transformers calls weights"):
        pickles_of(folder)
    (folder / "optimizer.pt").unlink()
    with pytest.raises(NotACheckpoint, match="no pickles"):
        pickles_of(folder)
    with pytest.raises(UnsupportedModel, match="safetensors already"):
        pickles_of(tiny_models.checkpoint("llama"))


def test_check_28_an_index_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder, _ = pickled(tmp_path / "old", parts=2)
    (folder / "pytorch_model.bin.index.json").write_text(
        '{"weight_map": {"a": "../other/pytorch_model.bin"}}'
    )
    with pytest.raises(DamagedCheckpoint, match="names other files"):
        pickles_of(folder)
