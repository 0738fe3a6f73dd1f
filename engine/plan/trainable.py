"""The parameters of a model as training counts them: shapes, and which are linear layers'."""

from __future__ import annotations

from collections.abc import Iterator

from engine.checkpoint import StoredTensor, Verdict
from engine.checkpoint.layers import main_list
from engine.plan.modules import ModuleNames, is_head, is_unused
from engine.plan.training import Weight
from engine.plan.weights import is_quantizable
from engine.values import Blueprint, BuiltTensor

_MATRIX_AXES = 2
_PACKED = {"I32", "U8", "I8"}


def weights_of(verdict: Verdict, blueprint: Blueprint | None = None) -> tuple[Weight, ...]:
    """Every parameter once: of the built model where it is known, else as the checkpoint stores them."""
    if blueprint is not None:
        return tuple(_built(tensor) for tensor in blueprint.tensors if not tensor.is_buffer)
    return tuple(_stored(verdict))


def _built(tensor: BuiltTensor) -> Weight:
    return Weight(tensor.shape, is_linear=tensor.packs and len(tensor.shape) == _MATRIX_AXES)


def _stored(verdict: Verdict) -> Iterator[Weight]:
    config = verdict.config
    names = ModuleNames(main_list(verdict.tensors, config.layers), config.model_type)
    for tensor in verdict.tensors:
        path = names.module_of(tensor.name)
        if is_unused(path, config.layers) or (config.is_tied and is_head(path.name)):
            continue
        is_linear = path.layer is not None and is_quantizable(tensor, config)
        yield Weight(_shape(tensor, config.quantization_bits), is_linear=is_linear)


def _shape(tensor: StoredTensor, bits: int) -> tuple[int, ...]:
    """Of the numbers that a packed tensor stands for, only their count is known."""
    return (tensor.bytes * 8 // bits,) if bits and tensor.dtype in _PACKED else tensor.shape
