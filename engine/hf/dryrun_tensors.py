"""The parameters and buffers of a built model, as they will be once loaded."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import torch
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.quantizers_utils import should_convert_module

from engine.blueprints import BuiltTensor
from engine.hf.protocols import CausalModel

_EXPERTS = ".experts."
_EXPERT = re.compile(r"^(.*\.experts)\.(\d+)\.")
_COUNTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
_STACKED_AXES = 3
_WIDE_BYTES = 4


def built_tensors(model: CausalModel, dtype: torch.dtype, active_experts: int) -> tuple[BuiltTensor, ...]:
    """Return every distinct parameter, and then every distinct buffer.

    Args:
        model: on the meta device.
        dtype: that it is loaded in.
        active_experts: routed experts that one token passes; 0 without any.
    """
    wide = _wide_names(model, dtype)

    def itemsize(name: str, tensor: torch.Tensor) -> int:
        return _WIDE_BYTES if wide and wide.search(name) else tensor.itemsize

    packed = _packed_rows(model)
    shares = Shares(model, active_experts)
    parameters = (
        BuiltTensor(
            name=name,
            shape=tuple(parameter.shape),
            itemsize=itemsize(name, parameter),
            packs=id(parameter) in packed,
            rows=packed.get(id(parameter), 0),
            active_share=shares.of(name, parameter),
        )
        for name, parameter in model.named_parameters()
    )
    buffers = (
        BuiltTensor(name=name, shape=tuple(buffer.shape), itemsize=itemsize(name, buffer), is_buffer=True)
        for name, buffer in model.named_buffers()
    )
    return (*parameters, *buffers)


def distinct_parameters(model: CausalModel) -> int:
    """Return the number of parameters, tied ones once."""
    return sum(parameter.numel() for _, parameter in model.named_parameters())


def tied_names(model: CausalModel) -> tuple[tuple[str, str], ...]:
    """Return (name, the name that is counted) of every parameter with several names."""
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    return tuple(
        (name, first[id(parameter)])
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if first[id(parameter)] != name
    )


def _wide_names(model: CausalModel, dtype: torch.dtype) -> re.Pattern[str] | None:
    """Return what matches the parameters that transformers keeps in float32, where there are any."""
    kept: set[str] = set()
    if dtype is torch.float16:
        kept |= set(getattr(model, "_keep_in_fp32_modules", None) or ())
    if dtype in {torch.float16, torch.bfloat16}:
        kept |= set(getattr(model, "_keep_in_fp32_modules_strict", None) or ())
    patterns = (f"(?:{name.replace('*', '.*')})" for name in sorted(kept))
    return re.compile("|".join(patterns)) if kept else None


def _packed_rows(model: CausalModel) -> dict[int, int]:
    """Return the output features of every weight that bitsandbytes packs, by the parameter's id."""
    spared = [*_spared_names(model), *(getattr(model, "_keep_in_fp32_modules", None) or ())]
    return {id(weight): rows for name, weight, rows in _linears(model) if should_convert_module(name, spared)}


def _spared_names(model: CausalModel) -> set[str]:
    """Return the modules that are never packed: tied ones, the head, and whichever comes last."""
    last = [name for name, _ in model.named_parameters(remove_duplicate=False)][-1:]
    tied = (name for pair in tied_names(model) for name in pair)
    output = model.get_output_embeddings()
    heads = (name for name, part in model.named_modules() if output is not None and part is output)
    return {name.removesuffix(".weight") for name in (*last, *tied, *heads)}


def _linears(model: CausalModel) -> Iterator[tuple[str, torch.Tensor, int]]:
    for name, part in model.named_modules():
        if type(part) is torch.nn.Linear:
            yield name, part.weight, part.out_features
        elif isinstance(part, Conv1D):
            yield name, part.weight, part.weight.shape[1]


class Shares:
    """The part of each parameter that one token reads."""

    def __init__(self, model: CausalModel, active_experts: int) -> None:
        """Find the embeddings and count the experts.

        Args:
            model: on the meta device.
            active_experts: routed experts that one token passes; 0 without any.
        """
        self._active = active_experts
        self._count = _expert_count(model)
        self._embeddings = {
            id(part.weight) for part in model.modules() if isinstance(part, torch.nn.Embedding)
        }
        matches = (_EXPERT.match(name) for name, _ in model.named_parameters() if _EXPERTS in name)
        self._numbered = Counter(path for path, _ in {(m[1], m[2]) for m in matches if m})

    def of(self, name: str, parameter: torch.Tensor) -> float:
        """Return one row's of an embedding, k in n experts', else all of it."""
        if id(parameter) in self._embeddings:
            return 1 / max(1, parameter.shape[0])
        count = self._experts_in(name, parameter) if self._active else 0
        return min(1.0, self._active / count) if count else 1.0

    def _experts_in(self, name: str, parameter: torch.Tensor) -> int:
        """Return how many experts share a parameter's list, or lie in it; 0 where it is none of theirs."""
        if match := _EXPERT.match(name):
            return self._numbered[match[1]]
        if _EXPERTS in name:
            return self._count or int(parameter.shape[0])
        is_stack = parameter.ndim == _STACKED_AXES and parameter.shape[0] == self._count
        return self._count if is_stack else 0


def _expert_count(model: CausalModel) -> int:
    config = model.config.get_text_config()  # type: ignore[attr-defined]  # of transformers' own class
    counts = (getattr(config, name, None) for name in _COUNTS)
    return next((count for count in counts if isinstance(count, int)), 0)
