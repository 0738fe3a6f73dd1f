"""Native configs and weights of old repositories: what the files hold, under transformers' names."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
import transformers
from transformers import AutoConfig

from engine.checkpoint import ModelConfig, StoredTensor, Verdict
from engine.checkpoint.adapted import GROUPED, family_of, read_native
from engine.checkpoint.files import read_json
from engine.errors import DoesNotFit
from engine.hf.tiers.in_place import TORCH_DTYPES
from engine.plan.explain import gib

SPARE_SHARE = 1.05
"""Of the room that rewritten weights need."""
LOCAL = {"trust_remote_code": False, "local_files_only": True}


def config_of(folder: Path) -> object:
    """Return transformers' config of a folder: its own, or the native one of an old repository."""
    if family_of(read_json(folder, "config.json")) is None:
        return AutoConfig.from_pretrained(folder, **LOCAL)
    fields = read_native(folder)
    return AutoConfig.for_model(fields.pop("model_type"), **fields)


def class_of(config: object) -> type[transformers.PreTrainedModel]:
    """Return transformers' class for text generation of a config."""
    found: type[transformers.PreTrainedModel] = transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    return found


def native_weights(verdict: Verdict) -> dict[str, object]:
    """Return a state dict of a checkpoint's weights, an old repository's under their native names.

    Every one is a view of a mapped file, so that nothing is read before it is used; what lies in turns
    is put together when transformers takes it, one parameter at a time.
    """
    files = {tensor.file for tensor in verdict.tensors}
    mapped = {file: mapped_file(file) for file in sorted(files)}
    pairs = ((tensor, view_of(tensor, mapped[tensor.file])) for tensor in verdict.tensors)
    return {name: value for pair in pairs for name, value in _named(*pair, verdict.config)}


def require_offload_room(verdict: Verdict, places: Mapping[str, str], offload_folder: Path | None) -> None:
    """Refuse a load whose renamed weights would not fit where accelerate writes those of the disk tier.

    Args:
        verdict: of an old repository.
        places: "disk" or another device, by the native name of every weight.
        offload_folder: where they are written.

    Raises:
        DoesNotFit: there is too little room.
    """
    needed = sum(tensor.bytes for tensor in verdict.tensors if places.get(tensor.name) == "disk")
    free = shutil.disk_usage(offload_folder).free if offload_folder else 0
    if needed * SPARE_SHARE > free:
        raise DoesNotFit(
            f"Its weights on disk are written anew under their native names: {gib(needed)}, "
            f"and {gib(free)} are free.",
            "Let more of it lie in RAM, or choose another offload folder.",
        )


def mapped_file(file: Path) -> torch.Tensor:
    """Map a whole file, uint8 [bytes]."""
    size = file.stat().st_size
    return torch.from_file(str(file), shared=False, size=size, dtype=torch.uint8)


def view_of(tensor: StoredTensor, whole: torch.Tensor) -> torch.Tensor:
    """Return a tensor as a view of its mapped file; a copy where it does not begin on its dtype's bounds."""
    part = whole[tensor.start : tensor.start + tensor.bytes]
    dtype = TORCH_DTYPES[tensor.dtype]
    if tensor.start % dtype.itemsize:
        part = part.clone()
    return part.view(dtype).view(tensor.shape)


def _named(tensor: StoredTensor, view: torch.Tensor, config: ModelConfig) -> Iterator[tuple[str, object]]:
    if GROUPED not in tensor.name:
        yield tensor.name, view
        return
    path, _, leaf = tensor.name.partition(GROUPED)
    turns = view.reshape(config.kv_heads, -1, config.head_dim, *tensor.shape[1:])
    parts = {"q_proj": turns[:, :-2], "k_proj": turns[:, -2], "v_proj": turns[:, -1]}
    for name, part in parts.items():
        yield f"{path}.self_attn.{name}.{leaf}", _Scattered(part, tensor.shape[1:])


class _Scattered:
    """Rows that lie apart in the file; they are put together when somebody asks for all of them."""

    def __init__(self, rows: torch.Tensor, columns: tuple[int, ...]) -> None:
        """Take a view [..., head_dim, *columns]."""
        self._rows = rows
        self._columns = columns
        self.dtype = rows.dtype

    def __getitem__(self, everything: object) -> torch.Tensor:
        """Return the parameter [rows, *columns]."""
        return self._rows.reshape(-1, *self._columns)

    def is_floating_point(self) -> bool:
        """Tell, as a tensor does."""
        return self._rows.is_floating_point()
