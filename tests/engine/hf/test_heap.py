from __future__ import annotations

import contextlib
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from engine.heap import GROWTH_BYTES
from engine.hf.decode import Interrupted
from engine.hf.heap import (
    PAGE,
    Heap,
    layers_of,
    mapped_spans,
    own_bytes,
    release_mapped,
    trim_heap,
)

SIZE = 64 * PAGE


def _saved(folder: Path) -> Path:
    generator = torch.Generator().manual_seed(1)
    tensors = {name: torch.rand(SIZE // 4, generator=generator) for name in ("first", "second")}
    save_file(tensors, folder / "model.safetensors")
    return folder / "model.safetensors"


def _resident(path: Path) -> int:
    """Bytes of a mapped file that lie in this process."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    at = next(number for number, line in enumerate(lines) if line.endswith(str(path)))
    return next(int(line.split()[1]) * 1024 for line in lines[at:] if line.startswith("Rss:"))


def test_released_pages_leave_the_process_and_come_back_as_they_were(tmp_path: Path) -> None:
    path = _saved(tmp_path)
    tensors = load_file(path)
    before = {name: tensor.sum().item() for name, tensor in tensors.items()}
    held = _resident(path)
    release_mapped()
    assert held >= 2 * SIZE
    assert _resident(path) < SIZE
    assert {name: tensor.sum().item() for name, tensor in tensors.items()} == before


def test_pages_of_a_kept_tensor_stay(tmp_path: Path) -> None:
    path = _saved(tmp_path)
    tensors = load_file(path)
    assert all(tensor.sum() > 0 for tensor in tensors.values())
    release_mapped([tensors["first"], torch.empty(3, device="meta"), torch.empty(0)])
    assert SIZE <= _resident(path) < SIZE + SIZE // 2


def test_files_that_are_mapped_are_found_while_they_are(tmp_path: Path) -> None:
    path = _saved(tmp_path)
    spans = len(mapped_spans())
    tensors = load_file(path)
    address = tensors["first"].data_ptr()
    assert any(start <= address < end for start, end in mapped_spans())
    del tensors
    assert len(mapped_spans()) == spans


def _model() -> torch.nn.Module:
    model = torch.nn.Module()
    model.short = torch.nn.ModuleList([torch.nn.Linear(2, 2)])
    model.layers = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(3))
    return model


def test_the_longest_list_holds_the_layers() -> None:
    model = _model()
    assert len(layers_of(model)) == 3
    assert layers_of(model)[0] is model.get_submodule("layers.0")
    assert layers_of(torch.nn.Linear(2, 2)) == []


def test_layers_are_watched_only_meanwhile() -> None:
    layers = layers_of(_model())
    heap = Heap(layers)
    with contextlib.suppress(Interrupted), heap.settling():
        assert [len(layer._forward_hooks) for layer in layers] == [1, 1, 1]
        layers[0](torch.ones(2))
        raise Interrupted
    assert [len(layer._forward_hooks) for layer in layers] == [0, 0, 0]


def test_gaps_are_given_back_once_they_have_grown() -> None:
    trim_heap()
    heap = Heap()
    before = own_bytes()
    blocks = [torch.ones(50_000) for _ in range(2 * GROWTH_BYTES // 200_000)]
    kept = blocks[::100]
    del blocks
    heap.settle()
    assert own_bytes() < before + GROWTH_BYTES
    assert all(bool((block == 1).all()) for block in kept)


def test_what_is_in_use_survives_a_trim() -> None:
    kept = [torch.full((10_000,), float(number)) for number in range(50)]
    del kept[::2]
    trim_heap()
    assert all(bool((tensor == tensor[0]).all()) for tensor in kept)
