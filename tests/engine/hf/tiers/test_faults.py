"""What goes wrong beneath the disk tier: one clear sentence, what was said is kept, the engine goes on."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace

from engine import EngineProcess
from engine.commands import Generate, LoadModel
from engine.errors import EngineFault, OutOfMemory
from engine.events import EngineEnded, Failed, ModelLoaded, TurnFinished
from engine.hf.tiers import ring
from engine.hf.tiers.direct import aligned_memory
from engine.hf.tiers.residency import PageCache
from engine.values import (
    ChatMessage,
    FinishReason,
    LayerPlacement,
    ModelRef,
    Placement,
    Role,
    SamplingParams,
    Tier,
)
from tests import tiny_models
from tests.engine.hf.talk import Said, Talk, in_ram, on_disk
from tests.engine.listener import Listener

LAYERS = 4
ALLOCATIONS = 60
QUESTION = "Why is that?"
SAMPLING = SamplingParams(temperature=0.0, max_new_tokens=200)
"""Longer than any reply of the tiny models: their ends are far, so that a fault always comes first."""


@pytest.fixture(autouse=True)
def cold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing counts as cached, so that everything goes through the ring."""
    monkeypatch.setattr(PageCache, "holds", lambda *_: False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_models.make("llama", tmp_path)


@pytest.fixture
def talk(folder: Path, tmp_path: Path) -> Iterator[Talk]:
    talk = Talk(folder, on_disk("model.layers", range(LAYERS), tmp_path / "offload", others=Tier.DISK))
    yield talk
    talk.backend.unload()


class FailsAt:
    """Calls something through until its n-th call, and raises from then on."""

    def __init__(self, call: Callable[..., Any], calls: int, error: BaseException) -> None:
        self.call = call
        self.left = calls
        self.error = error

    def __call__(self, *arguments: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise self.error
        return self.call(*arguments)


def asked(talk: Talk, sampling: SamplingParams = SAMPLING) -> Said:
    """One question without a history."""
    talk.messages.clear()
    return talk.ask(QUESTION, sampling)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENODEV, errno.ESTALE])
def test_check_39_a_disk_that_fails_in_a_reply_keeps_what_was_said_and_the_engine(
    talk: Talk, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    whole = asked(talk).text
    with monkeypatch.context() as patched:
        failing = FailsAt(os.preadv, 16 * LAYERS, OSError(number, os.strerror(number)))
        patched.setattr(os, "preadv", failing)
        said = asked(talk)
    assert said.finished.finish_reason is FinishReason.FAILED
    assert said.finished.error == EngineFault.__name__
    assert said.finished.message == f"model.safetensors cannot be read: {os.strerror(number)}."
    assert said.finished.hint
    assert 0 < len(said.text) < len(whole)
    assert whole.startswith(said.text)
    assert asked(talk).text == whole


def test_check_39_a_file_that_is_removed_is_read_on_until_it_is_unloaded(talk: Talk, folder: Path) -> None:
    whole = asked(talk).text
    (folder / "model.safetensors").unlink()
    assert asked(talk).text == whole


def test_check_39_a_file_that_is_changed_in_place_ends_the_turn_instead_of_mixing_two_models(
    talk: Talk, folder: Path
) -> None:
    file = folder / "model.safetensors"
    with file.open("r+b") as writing:
        writing.seek(-64, os.SEEK_END)
        writing.write(bytes(64))
    os.utime(file, ns=(0, 1))
    said = asked(talk)
    assert said.finished.finish_reason is FinishReason.FAILED
    assert said.finished.message == "model.safetensors has changed while it is in use."
    assert "again" in said.finished.hint


def test_check_33_memory_that_runs_out_anywhere_in_a_turn_keeps_what_was_said_and_the_next_turn_works(
    talk: Talk,
) -> None:
    whole = asked(talk).text
    model = talk.inner.runner._model
    for entries in range(ALLOCATIONS):
        failing = FailsAt(lambda *_: None, entries, torch.OutOfMemoryError("CUDA out of memory."))
        hooks = [layer.self_attn.register_forward_pre_hook(failing) for layer in model.model.layers]
        said = asked(talk)
        for hook in hooks:
            hook.remove()
        assert said.finished.finish_reason is FinishReason.FAILED
        assert said.finished.error == OutOfMemory.__name__
        assert said.finished.hint
        assert whole.startswith(said.text)
        assert bool(said.text) or entries < 3 * LAYERS
    assert asked(talk).text == whole


@pytest.mark.parametrize("buffers", range(3))
def test_check_33_memory_that_runs_out_for_a_buffer_ends_the_load_and_the_next_one_works(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, buffers: int
) -> None:
    placement = on_disk("model.layers", range(LAYERS), tmp_path / "offload")
    with monkeypatch.context() as patched:
        error = OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        patched.setattr(ring, "aligned_memory", FailsAt(aligned_memory, buffers, error))
        with pytest.raises(OutOfMemory, match="RAM ran out while loading the model"):
            Talk(folder, placement)
    talk = Talk(folder, placement)
    assert asked(talk).finished.finish_reason is not FinishReason.FAILED
    talk.backend.unload()


def test_check_37_weights_on_disk_that_are_no_numbers_end_the_turn_with_a_sentence(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = talk.inner.runner._model.model.layers[2]
    hook = layer.register_forward_hook(lambda _module, _args, output: torch.full_like(output, float("nan")))
    said = asked(talk)
    hook.remove()
    assert said.finished.finish_reason is FinishReason.FAILED
    assert "NaN" in said.finished.message
    assert asked(talk).finished.finish_reason is not FinishReason.FAILED


def test_check_39_a_mapped_file_that_is_truncated_kills_the_engine_only_and_the_cause_is_named(
    folder: Path,
) -> None:
    (folder / "model.safetensors").read_bytes()  # it lies in the page cache, and is used where it is mapped
    listener = Listener()
    engine = EngineProcess(listener)
    engine.start()
    model = ModelRef(name="tiny", folder=folder)
    engine.submit(LoadModel(turn_id=1, model=model, placement=in_ram()))
    listener.wait_for(ModelLoaded, 1)
    os.truncate(folder / "model.safetensors", 0)
    question = ChatMessage(role=Role.USER, content=QUESTION)
    engine.submit(Generate(turn_id=2, messages=(question,), sampling=SAMPLING))
    ended, finished = listener.wait_for(EngineEnded), listener.wait_for(TurnFinished, 2)
    assert "SIGBUS" in ended.message
    assert "became shorter" in ended.message
    assert (finished.finish_reason, finished.message) == (FinishReason.FAILED, ended.message)
    engine.close()


GROUP_BYTES = 96 << 20
WIDE: dict[str, Any] = {"intermediate_size": 16_384, "num_hidden_layers": 24}
"""150 MB of layers, more than the group allows."""


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A cgroup v1 of 96 MiB, for what a process allocates from the moment on that it is put there."""
    group = Path("/sys/fs/cgroup/memory") / f"vramble-disk-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup v1 to make a limit in: {error}")
    (group / "memory.limit_in_bytes").write_text(str(GROUP_BYTES))
    yield group
    group.rmdir()


def placed(folder: Path, offload: Path, tier: Tier) -> LoadModel:
    names = [f"model.layers.{index}" for index in range(WIDE["num_hidden_layers"])]
    layers = [LayerPlacement(name=name, bytes=0, tier=tier, device="disk") for name in names]
    others = ("lm_head", "model.embed_tokens", "model.norm")
    layers += [LayerPlacement(name=name, bytes=0, tier=Tier.CPU, device="ram") for name in others]
    placement = Placement(context_window=64, layers=tuple(layers), offload_folder=offload)
    return LoadModel(model=ModelRef(name=folder.name, folder=folder), placement=placement)


def test_check_34_a_model_larger_than_its_group_answers_from_the_disk_and_in_ram_its_end_is_named(
    folder: Path, tmp_path: Path, small_group: Path
) -> None:
    large = tiny_models.make("llama", tmp_path / "large", **WIDE)
    assert (large / "model.safetensors").stat().st_size > 1.2 * GROUP_BYTES
    with (large / "model.safetensors").open("rb") as file:
        os.fsync(file.fileno())  # pages that are not written yet stay cached, and are used where they are
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    listener = Listener()
    engine = EngineProcess(listener)
    engine.start()
    question = ChatMessage(role=Role.USER, content=QUESTION)
    few = SamplingParams(temperature=0.0, max_new_tokens=3)
    try:
        # What the libraries need once is not what is limited.
        engine.submit(LoadModel(turn_id=1, model=ModelRef(name="tiny", folder=folder), placement=in_ram()))
        listener.wait_for(ModelLoaded, 1)
        (small_group / "cgroup.procs").write_text(str(engine.pid))
        engine.submit(replace(placed(large, tmp_path / "offload", Tier.DISK), turn_id=2))
        engine.submit(Generate(turn_id=3, messages=(question,), sampling=few))
        finished = listener.wait_for(TurnFinished, 3)
        assert finished.finish_reason is FinishReason.LENGTH, finished.message
        engine.submit(replace(placed(large, tmp_path / "offload", Tier.CPU), turn_id=4))
        ended = listener.wait_for(EngineEnded)
        assert ended.out_of_memory
        assert "ran out of memory" in ended.message
        assert "ran out of memory" in listener.wait_for(Failed, 4).message
    finally:
        engine.close()
    assert not any((tmp_path / "offload").iterdir())
