"""The modules of a built model: what a blueprint's tensors take, and where they belong."""

from __future__ import annotations

import math
from collections.abc import Iterable

from engine.blueprints import Blueprint, BuiltTensor
from engine.plan.module import Module
from engine.plan.modules import Granularity, ModulePath, forward_order
from engine.plan.weights import quantized_bytes
from engine.values import Quantization

_EXPERTS = ".experts."
_MATRIX_AXES = 2


def built_modules(blueprint: Blueprint, quantization: Quantization, *, rewrites: bool) -> tuple[Module, ...]:
    """Every module of a built model, in forward order.

    Args:
        blueprint: of the model.
        quantization: that is applied on load.
        rewrites: loading stacks the checkpoint's experts.
    """
    granularity = Granularity(blueprint.layer_list)
    groups: dict[ModulePath, list[BuiltTensor]] = {}
    for tensor in blueprint.tensors:
        groups.setdefault(granularity.module_of(tensor.name), []).append(tensor)
    tied = _tied_modules(blueprint, granularity, groups)
    for path, owner in tied.items():
        groups[owner].extend(groups.pop(path, ()))
    modules = [_module(path, tensors, quantization, rewrites) for path, tensors in groups.items()]
    modules += [Module(name=path.name, bytes=0, plain_bytes=0, tied_to=tied[path].name) for path in tied]
    modules.sort(key=lambda module: forward_order(ModulePath(module.name, module.layer)))
    return tuple(modules)


def built_expert_bytes(blueprint: Blueprint) -> int:
    """Bytes of experts, which quantizing on load leaves as they are."""
    return sum(_plain_bytes(t) for t in blueprint.tensors if _EXPERTS in t.name and not t.packs)


def _tied_modules(
    blueprint: Blueprint, granularity: Granularity, groups: Iterable[ModulePath]
) -> dict[ModulePath, ModulePath]:
    """Modules outside the main list that share their weights with another one, which is not tied itself.

    What such a module has of its own (a bias) is counted where the shared weights are.
    """
    pairs = ((granularity.module_of(name), granularity.module_of(owner)) for name, owner in blueprint.tied)
    owners = set(groups)
    return {path: owner for path, owner in pairs if path.layer is None and path != owner and owner in owners}


def _module(
    path: ModulePath, tensors: list[BuiltTensor], quantization: Quantization, rewrites: bool
) -> Module:
    plain = [_plain_bytes(tensor) for tensor in tensors]
    loaded = [_loaded_bytes(tensor, size, quantization) for tensor, size in zip(tensors, plain, strict=True)]
    read = sum(size * tensor.active_share for tensor, size in zip(tensors, loaded, strict=True))
    return Module(
        name=path.name,
        bytes=sum(loaded),
        plain_bytes=sum(plain),
        rewritten_bytes=_rewritten_bytes(tensors) if rewrites else 0,
        layer=path.layer,
        active_share=read / (sum(loaded) or 1),
        tensors=len(tensors),
        matrices=sum(len(t.shape) == _MATRIX_AXES and _EXPERTS not in t.name for t in tensors),
        widest_elements=max((math.prod(tensor.shape) for tensor in tensors if tensor.packs), default=0),
        is_computed=all(tensor.is_buffer for tensor in tensors),
    )


def _plain_bytes(tensor: BuiltTensor) -> int:
    return math.prod(tensor.shape) * tensor.itemsize


def _loaded_bytes(tensor: BuiltTensor, plain: int, quantization: Quantization) -> int:
    if quantization is Quantization.NONE or not tensor.packs:
        return plain
    return quantized_bytes(math.prod(tensor.shape), tensor.rows or tensor.shape[0], quantization)


def _rewritten_bytes(tensors: Iterable[BuiltTensor]) -> int:
    return sum(_plain_bytes(tensor) for tensor in tensors if _EXPERTS in tensor.name)
