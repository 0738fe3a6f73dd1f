"""Which of a model's parameters can be used as they are stored, told from names before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch

from engine.checkpoint import StoredTensor
from engine.hf.protocols import CausalModel
from engine.plan.in_place import KEPT_SHARE

TORCH_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "U8": torch.uint8,
}


class _Source(NamedTuple):
    """A parameter, and where it comes from.

    Attributes:
        is_on_disk: every module that has it rests on disk.
        stored: its tensor in the files, byte by byte the same; None where it has to be made.
        bytes: of the parameter.
    """

    is_on_disk: bool
    stored: StoredTensor | None
    bytes: int


class InPlace(NamedTuple):
    """A model that can be used as it is stored.

    Attributes:
        disk_paths: modules that rest on disk, in forward order, as the model calls them.
        ram_tensors: what the others are made of, in the order of the files.
    """

    disk_paths: tuple[str, ...]
    ram_tensors: tuple[StoredTensor, ...]


def in_place(
    skeleton: CausalModel, tensors: Sequence[StoredTensor], on_disk: Iterable[str]
) -> InPlace | None:
    """Compare a model's parameters with the stored tensors; None where too much of it has to be made.

    Args:
        skeleton: the model on the meta device.
        tensors: in the order of the files.
        on_disk: modules that the plan puts on disk, in forward order; the inner model's prefix may lack.
    """
    paths = _paths(skeleton, on_disk)
    sources = list(_sources(skeleton, tensors, paths))
    made = sum(source.bytes for source in sources if source.stored is None)
    if made > KEPT_SHARE * sum(source.bytes for source in sources):
        return None
    wanted = {source.stored.name for source in sources if source.stored and not source.is_on_disk}
    return InPlace(paths, tuple(tensor for tensor in tensors if tensor.name in wanted))


def _paths(skeleton: CausalModel, names: Iterable[str]) -> tuple[str, ...]:
    """Name modules as the model does: plans may leave the inner model's prefix out."""
    known = {path for path, _ in skeleton.named_modules()}
    candidates = ((name, f"{skeleton.base_model_prefix}.{name}") for name in names)
    found = (next((path for path in pair if path in known), None) for pair in candidates)
    return tuple(path for path in found if path is not None)


def _sources(
    skeleton: CausalModel, tensors: Sequence[StoredTensor], on_disk: tuple[str, ...]
) -> Iterator[_Source]:
    stored = {tensor.name: tensor for tensor in tensors}
    named = list(_named(skeleton))
    prefix = f"{skeleton.base_model_prefix}."
    matches = [_by_name(stored, names, prefix) for _, names in named]
    used = {match.name for match in matches if match}
    left = [tensor for tensor in tensors if tensor.name not in used]
    roots = tuple(f"{path}." for path in on_disk)
    has_dtype = getattr(skeleton.config, "dtype", None) is not None
    for (parameter, names), match in zip(named, matches, strict=True):
        candidates = [match] if match else [t for t in left if t.shape == tuple(parameter.shape)]
        same = [t for t in candidates if _is_same(t, parameter, has_dtype=has_dtype)]
        is_on_disk = all(name.startswith(roots) for name in names)
        yield _Source(is_on_disk, same[0] if len(same) == 1 else None, parameter.nbytes)


def _by_name(stored: Mapping[str, StoredTensor], names: Iterable[str], prefix: str) -> StoredTensor | None:
    """Find what one of a parameter's names stands for; one that was renamed is known by its shape alone."""
    aliases = (alias for name in names for alias in _aliases(name, prefix))
    return next((stored[alias] for alias in aliases if alias in stored), None)


def _named(skeleton: CausalModel) -> Iterable[tuple[torch.nn.Parameter, list[str]]]:
    """Every parameter with all of its names: a tied one has two."""
    found: dict[int, tuple[torch.nn.Parameter, list[str]]] = {}
    for name, parameter in skeleton.named_parameters(remove_duplicate=False):
        found.setdefault(id(parameter), (parameter, []))[1].append(name)
    return found.values()


def _aliases(name: str, prefix: str) -> tuple[str, ...]:
    return name, name.removeprefix(prefix), f"{prefix}{name}"


def _is_same(tensor: StoredTensor, parameter: torch.nn.Parameter, *, has_dtype: bool) -> bool:
    """Compare shapes, and dtypes where the configuration names one; else the files' own is taken."""
    dtype = TORCH_DTYPES.get(tensor.dtype)
    is_right = dtype == parameter.dtype if has_dtype else dtype is not None
    return is_right and tensor.shape == tuple(parameter.shape)
