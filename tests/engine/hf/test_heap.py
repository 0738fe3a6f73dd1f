from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from engine.hf.heap import PAGE, mapped_spans, release_mapped, trim_after_first_pass, trim_heap

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


def test_the_first_pass_alone_is_followed_by_trims() -> None:
    model = torch.nn.Module()
    model.layers = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(3))
    trim_after_first_pass(model)
    assert [len(layer._forward_hooks) for layer in model.layers] == [1, 1, 1]
    for layer in model.layers:
        layer(torch.ones(2))
    assert [len(layer._forward_hooks) for layer in model.layers] == [0, 0, 0]


def test_what_is_in_use_survives_a_trim() -> None:
    kept = [torch.full((10_000,), float(number)) for number in range(50)]
    del kept[::2]
    trim_heap()
    assert all(bool((tensor == tensor[0]).all()) for tensor in kept)
