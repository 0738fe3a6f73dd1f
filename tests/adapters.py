"""Small LoRA adapters as peft writes them, and what a base model becomes with them by plain torch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

RANK, ALPHA = 4, 10
Matrices = Mapping[str, tuple[int, int]]
"""Shapes [rows, columns] by the path of a linear layer."""


def make_adapter(folder: Path, matrices: Matrices, *, seed: int = 1, **config: Any) -> Path:
    """An adapter of rank 4; keyword arguments change its adapter_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "base_model_name_or_path": "Owner/base"}
    (folder / "adapter_config.json").write_text(json.dumps(fields | config))
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for path, (rows, columns) in matrices.items():
        named = f"base_model.model.{path}"
        tensors[f"{named}.lora_A.weight"] = torch.randn(RANK, columns, generator=generator)
        tensors[f"{named}.lora_B.weight"] = torch.randn(rows, RANK, generator=generator)
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def change_tensors(folder: Path, **changes: torch.Tensor | None) -> None:
    """Put tensors in place of those whose names end so, dots as __; None takes them out."""
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    for ending, tensor in changes.items():
        wanted = ending.replace("__", ".")
        name = next((name for name in tensors if name.endswith(wanted)), wanted)
        tensors.pop(name, None)
        if tensor is not None:
            tensors[name] = tensor
    save_file(tensors, path)


def merged_folder(base: Path, adapter: Path, target: Path, scale: float, *, is_turned: bool = False) -> Path:
    """The base model with W + scale * B A stored in place of W, by float32 arithmetic."""
    shutil.copytree(base, target)
    stored = load_file(base / "model.safetensors")
    parts = load_file(adapter / "adapter_model.safetensors")
    for name in parts:
        if name.endswith(".lora_A.weight"):
            path = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            share = scale * parts[name.replace("lora_A", "lora_B")].float() @ parts[name].float()
            key = f"{path}.weight" if f"{path}.weight" in stored else f"{path.partition('.')[2]}.weight"
            whole = stored[key].float() + (share.T if is_turned else share)
            stored[key] = whole.to(stored[key].dtype).contiguous()
    save_file(stored, target / "model.safetensors", metadata={"format": "pt"})
    return target


def change_weight(folder: Path, name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Store another weight in a model folder."""
    path = folder / "model.safetensors"
    stored = load_file(path)
    stored[name] = change(stored[name].float()).to(stored[name].dtype)
    save_file(stored, path, metadata={"format": "pt"})
