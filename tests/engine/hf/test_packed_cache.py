"""Packed weights that are kept: the second load reads them alone, and is the first one again."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from engine.checkpoint import Verdict, inspect_folder
from engine.events import LoadProgress
from engine.hf import keeper, planes
from engine.hf import packed_cache as packed
from engine.hf.keeper import make_room
from engine.hf.tiers.direct import give_back
from engine.plan import footprint_of
from engine.plan.packed import UNFINISHED, packed_file, packed_folder, packed_path
from engine.values import LoadStage, Quantization
from tests import tiny_models
from tests.engine.hf.talk import Talk, quantized

NF4 = Quantization.NF4
SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 512,
    "num_key_value_heads": 4,
    "head_dim": 16,
}


class Answer(NamedTuple):
    """What a model says, and the numbers behind it."""

    text: str
    logits: torch.Tensor


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_models.make("llama", tmp_path, dtype=torch.bfloat16, **SHAPE)


def first(folder: Path, kind: Quantization = NF4) -> Answer:
    """Load, answer, and wait until what was packed is kept, or is not."""
    talk = Talk(folder, quantized(kind))
    writer = talk.backend._keeper
    said = answer(talk)
    assert writer is not None
    writer.wait()
    talk.backend.unload()
    return said


def answer(talk: Talk) -> Answer:
    text = talk.ask("Why?").text
    return Answer(text, talk.inner.runner.feed([5]).clone())


def was_packed(talk: Talk) -> bool:
    return any(isinstance(e, LoadProgress) and e.stage is LoadStage.QUANTIZE for e in talk.progress)


def kept_files() -> list[Path]:
    return sorted(packed_folder().glob("*"))


def require_again(folder: Path, said: Answer, *, anew: bool, kind: Quantization = NF4) -> None:
    """Load once more: it says the same, and was packed, or was not."""
    talk = Talk(folder, quantized(kind))
    assert was_packed(talk) is anew
    again = answer(talk)
    talk.backend.unload()
    assert again.text == said.text
    assert torch.equal(again.logits, said.logits)


@pytest.mark.parametrize("kind", [Quantization.NF4, Quantization.INT8])
def test_the_second_load_reads_packed_weights_alone_and_computes_the_same(
    folder: Path, kind: Quantization, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = first(folder, kind)
    (kept,) = kept_files()
    verdict = inspect_folder(folder)
    footprint = footprint_of(verdict, kind)
    assert 0 < footprint.kept_bytes < kept.stat().st_size < 0.75 * verdict.weight_bytes
    assert footprint.kept_bytes <= 1.05 * footprint.weight_bytes
    opened = _opened_by_readers(monkeypatch)
    require_again(folder, said, anew=False, kind=kind)
    assert opened == {kept}
    assert kept_files() == [kept]


def test_what_is_left_unpacked_is_read_in_twelve_bits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planes, "LEAST_NUMBERS", 0)
    monkeypatch.setattr(packed, "RELEASED_NUMBERS", 1)
    given_back: list[int] = []

    def noting(memory: memoryview, start: int, end: int) -> None:
        given_back.append(end - start)
        give_back(memory, start, end)

    monkeypatch.setattr("engine.hf.tiers.slabs.give_back", noting)
    said = first(folder)
    kept = packed_file(inspect_folder(folder), NF4)
    assert kept is not None
    sizes = {tensor.name: tensor.bytes for tensor in kept.tensors}
    whole = {tensor.name: tensor.bytes for tensor in inspect_folder(folder).tensors}["lm_head.weight"]
    assert "lm_head.weight" not in sizes
    parts = [sizes[f"lm_head.weight{part}"] for part in (planes.LOW, planes.CODES)]
    assert sum(parts) == 0.75 * whole
    require_again(folder, said, anew=False)
    assert sum(given_back) >= sum(parts)


def _opened_by_readers(monkeypatch: pytest.MonkeyPatch) -> set[Path]:
    from engine.hf.tiers import direct

    opened: set[Path] = set()
    open_file = direct._opened

    def noting(file: Path, *, is_direct: bool) -> int:
        opened.add(file)
        return open_file(file, is_direct=is_direct)

    monkeypatch.setattr(direct, "_opened", noting)
    return opened


def test_a_changed_checkpoint_is_packed_anew(folder: Path) -> None:
    first(folder)
    tiny_models.make("llama", folder.parent, dtype=torch.bfloat16, seed=7, **SHAPE)
    assert packed_file(inspect_folder(folder), NF4) is None
    said = first(folder)
    require_again(folder, said, anew=False)
    assert len(kept_files()) == 2


@pytest.mark.parametrize("damage", ["byte", "half"])
def test_a_damaged_file_is_as_good_as_none_and_made_anew(folder: Path, damage: str) -> None:
    said = first(folder)
    (kept,) = kept_files()
    content = bytearray(kept.read_bytes())
    content[len(content) // 2] ^= 1
    changed = {"byte": content, "half": content[: len(content) // 2]}
    kept.write_bytes(changed[damage])
    talk = Talk(folder, quantized(NF4))
    writer = talk.backend._keeper
    assert was_packed(talk)
    assert writer is not None
    again = answer(talk)
    assert torch.equal(again.logits, said.logits)
    writer.wait()
    talk.backend.unload()
    require_again(folder, said, anew=False)


def test_a_full_disk_keeps_nothing_and_disturbs_nobody(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        said = first(folder)
    assert kept_files() == []
    require_again(folder, said, anew=True)


def test_where_little_space_is_free_nothing_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "LEAST_FREE_BYTES", 1 << 60)
    first(folder)
    assert kept_files() == []


def test_an_unload_does_not_wait_for_the_file_and_leaves_no_part_of_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "BLOCK_BYTES", 64)
    talk = Talk(folder, quantized(NF4))
    writer = talk.backend._keeper
    talk.backend.unload()
    assert writer is not None
    assert not writer._thread.is_alive()
    assert list(writer._arrange(lambda: None)) == []
    assert [path for path in kept_files() if path.name.startswith(UNFINISHED)] == []


def test_what_was_of_no_use_for_longest_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for age, name in enumerate(("newest", "middle", "oldest")):
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(bytes(1000))
        os.utime(path, (10**9 - age, 10**9 - age))
    left = tmp_path / f"{UNFINISHED}999999999-x"
    left.write_bytes(b"")
    monkeypatch.setattr(keeper, "LEAST_FREE_BYTES", 0)
    disk = os.statvfs(tmp_path)
    room = disk.f_bavail * disk.f_frsize + 3000
    monkeypatch.setattr(keeper, "LARGEST_SHARE", 3700 / room)
    assert make_room(tmp_path, 500)
    assert not left.exists()
    assert len(list(tmp_path.iterdir())) == 3
    assert make_room(tmp_path, 2000)
    assert [path.name for path in tmp_path.iterdir()] == ["newest.safetensors"]
    assert not make_room(tmp_path, 5000)
    assert [path.name for path in tmp_path.iterdir()] == ["newest.safetensors"]


def test_a_model_that_hardly_gets_smaller_is_not_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "WORTH_SHARE", 0.1)
    talk = Talk(folder, quantized(NF4))
    assert talk.backend._keeper is None
    talk.backend.unload()


def test_the_name_tells_everything_that_packing_depends_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict = inspect_folder(folder)
    names = {packed_path(verdict, NF4), packed_path(verdict, Quantization.INT8)}
    names.add(_touched(verdict))
    with monkeypatch.context() as patch:
        patch.setattr("engine.plan.packed._versions", lambda: ("bitsandbytes 9",))
        names.add(packed_path(verdict, NF4))
    with monkeypatch.context() as patch:
        patch.setattr("engine.plan.packed.has_bf16_products", lambda: None)
        names.add(packed_path(verdict, NF4))
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    names.add(packed_path(verdict, NF4))
    assert len(names - {None}) == 6
    assert packed_path(verdict, Quantization.NONE) is None


def _touched(verdict: Verdict) -> Path | None:
    os.utime(verdict.tensors[0].file)
    return packed_path(verdict, NF4)
