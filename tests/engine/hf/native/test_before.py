"""What was found out about a checkpoint is not tried again, unless anything about it has changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.checkpoint import inspect_folder
from engine.errors import DamagedCheckpoint
from engine.hf.native.before import Way, keep_way, name_of, way_before
from engine.hf.native.decoder import NativeDecoder
from engine.hf.native.library import Kernels
from engine.hf.native.trial import Trial
from engine.hf.ways import SLOW_STEP_SECONDS, TIMED_STEPS
from engine.values import Quantization
from tests import tiny_models
from tests.engine.hf.talk import Talk

pytestmark = pytest.mark.usefixtures("kernels")


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """One entry for each trial that takes place."""
    held: list[object] = []
    tried: Callable[..., NativeDecoder | None] = Trial.__call__

    def counted(trial: Trial, *arguments: object) -> NativeDecoder | None:
        held.append(trial)
        return tried(trial, *arguments)

    monkeypatch.setattr(Trial, "__call__", counted)
    return held


def said(folder: Path) -> tuple[str, object]:
    """A reply of a model that is loaded for it, and what computed its tokens."""
    talk = Talk(folder)
    text, decoder = talk.ask("Why?").text, talk.inner.runner.decoder
    talk.backend.unload()
    return text, decoder


@pytest.mark.parametrize("family", ["llama", "gemma2", "glm", "mixtral"])
def test_a_checkpoint_that_was_tried_is_computed_as_before(family: str, trials: list[object]) -> None:
    folder = tiny_models.checkpoint(family)
    first, decoder = said(folder)
    assert isinstance(decoder, NativeDecoder)
    second, again = said(folder)
    assert isinstance(again, NativeDecoder)
    assert again.interleaved == decoder.interleaved
    assert len(trials) == 1
    assert second == first


def fed_by_a_second_load(monkeypatch: pytest.MonkeyPatch, seconds: float) -> list[int]:
    """What each forward of a second load computed, where a token took so long at the first one."""
    folder = tiny_models.checkpoint("llama")
    said(folder)
    fed: list[int] = []
    feed = NativeDecoder.feed

    def counted(decoder: NativeDecoder, token_ids: Sequence[int], *rest: Any) -> torch.Tensor | None:
        fed.append(len(token_ids))
        return feed(decoder, token_ids, *rest)

    def kept(name: str) -> Way | None:
        way = way_before(name)
        return way and msgspec.structs.replace(way, seconds=seconds)

    monkeypatch.setattr(NativeDecoder, "feed", counted)
    monkeypatch.setattr("engine.hf.decode.settle_threads", lambda _: None)
    monkeypatch.setattr("engine.hf.warm_up.way_before", kept)
    Talk(folder).backend.unload()
    return fed


def test_a_second_load_computes_one_token(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fed_by_a_second_load(monkeypatch, SLOW_STEP_SECONDS / 2) == [1]


def test_a_time_taken_on_a_busy_machine_is_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first, *again = fed_by_a_second_load(monkeypatch, 2 * SLOW_STEP_SECONDS)
    assert first == 1
    assert set(again) == {1}
    assert len(again) <= TIMED_STEPS


def test_what_the_kernels_do_not_serve_is_tried_each_time(trials: list[object]) -> None:
    folder = tiny_models.checkpoint("gpt2")
    assert not isinstance(said(folder)[1], NativeDecoder)
    said(folder)
    assert len(trials) == 2


def test_changed_weights_are_tried_again(tmp_path: Path, trials: list[object]) -> None:
    folder = tiny_models.make("llama", tmp_path)
    said(folder)
    file = folder / "model.safetensors"
    weights = {name: 2 * tensor for name, tensor in load_file(file).items()}
    save_file(weights, file, metadata={"format": "pt"})
    said(folder)
    assert len(trials) == 2


def test_weights_that_were_damaged_in_place_are_still_noticed(tmp_path: Path, trials: list[object]) -> None:
    folder = tiny_models.make("llama", tmp_path)
    said(folder)
    file = folder / "model.safetensors"
    status = file.stat()
    damaged = {name: torch.full_like(tensor, torch.nan) for name, tensor in load_file(file).items()}
    draft = tmp_path / "draft"
    save_file(damaged, draft, metadata={"format": "pt"})
    with file.open("r+b") as target:
        target.write(draft.read_bytes())
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(DamagedCheckpoint, match="NaN"):
        Talk(folder)
    assert len(trials) == 1


def test_without_kernels_nothing_is_kept_and_nothing_taken(
    monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    folder = tiny_models.checkpoint("llama")
    monkeypatch.setenv("VRAMBLE_KERNELS", "off")
    assert not isinstance(said(folder)[1], NativeDecoder)
    assert not list(own_cache.rglob("ways-*.json"))


def test_a_way_belongs_to_one_packing(kernels: Kernels) -> None:
    verdict = inspect_folder(tiny_models.checkpoint("llama"))
    names = {name_of(verdict, quantization, kernels) for quantization in Quantization}
    assert len(names) == len(Quantization)


def test_only_sound_ways_are_taken() -> None:
    keep_way("slow", Way(interleaved=False, seconds=float("inf"), continues=True))
    keep_way("good", Way(interleaved=True, seconds=0.5, continues=False))
    assert way_before("good") == Way(interleaved=True, seconds=0.5, continues=False)
    assert way_before("slow") is None
    assert way_before("other") is None
