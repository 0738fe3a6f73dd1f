"""The modules of a checkpoint from its headers: what loading will make of the stored tensors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from engine.checkpoint import ModelConfig, StoredTensor, Verdict
from engine.checkpoint.layers import main_list
from engine.plan.module import Module
from engine.plan.modules import ModuleNames, ModulePath, forward_order, is_embedding, is_head, is_unused
from engine.plan.weights import is_merged, is_quantizable, packed_rows, plain_bytes, quantized_bytes
from engine.values import Quantization

_EXPERTS = ".experts."
_MATRIX_AXES = 2
_EXPERT = re.compile(r"^(.*\.experts)\.(\d+)\.")


def is_expert(name: str) -> bool:
    """The tensor belongs to routed experts."""
    return _EXPERTS in name


def stored_modules(verdict: Verdict, itemsize: int, quantization: Quantization) -> tuple[Module, ...]:
    """Every module of a checkpoint, in forward order.

    Args:
        verdict: of its folder.
        itemsize: bytes of one computed element.
        quantization: that is applied on load.
    """
    config = verdict.config
    shares = _Shares(config, verdict.tensors)
    modules = [
        _module(path, tensors, shares, (config, itemsize, quantization))
        for path, tensors in _group(verdict).items()
    ]
    modules = _with_tied_head(modules, config)
    modules.sort(key=lambda module: forward_order(ModulePath(module.name, module.layer)))
    return tuple(modules)


def _group(verdict: Verdict) -> dict[ModulePath, list[StoredTensor]]:
    config = verdict.config
    names = ModuleNames(main_list(verdict.tensors, config.layers), config.model_type)
    groups: dict[ModulePath, list[StoredTensor]] = {}
    for tensor in verdict.tensors:
        path = names.module_of(tensor.name)
        if not is_unused(path, config.layers):
            groups.setdefault(path, []).append(tensor)
    if not any(is_head(path.name) for path in groups):
        groups[ModulePath(names.head)] = []
    return groups


def _module(
    path: ModulePath,
    tensors: list[StoredTensor],
    shares: _Shares,
    how: tuple[ModelConfig, int, Quantization],
) -> Module:
    config, itemsize, quantization = how
    packs = quantization is not Quantization.NONE and path.layer is not None
    plain = [plain_bytes(tensor, config, itemsize) for tensor in tensors]
    loaded = [
        quantized_bytes(tensor.elements, packed_rows(tensor, config), quantization)
        if packs and is_quantizable(tensor, config)
        else as_plain
        for tensor, as_plain in zip(tensors, plain, strict=True)
    ]
    read = sum(size * shares.of(path, tensor) for tensor, size in zip(tensors, loaded, strict=True))
    return Module(
        name=path.name,
        bytes=sum(loaded),
        plain_bytes=sum(plain),
        rewritten_bytes=sum(size for tensor, size in zip(tensors, plain, strict=True) if is_merged(tensor)),
        layer=path.layer,
        active_share=read / (sum(loaded) or 1),
        tensors=len(tensors),
        matrices=sum(len(t.shape) == _MATRIX_AXES and not is_expert(t.name) for t in tensors),
    )


class _Shares:
    """The part of each tensor that one token reads."""

    def __init__(self, config: ModelConfig, tensors: Iterable[StoredTensor]) -> None:
        """Count the experts of each layer."""
        self._active = config.active_experts
        matches = (_EXPERT.match(tensor.name) for tensor in tensors if _EXPERTS in tensor.name)
        numbered = {(match[1], match[2]) for match in matches if match}
        self._counts = Counter(path for path, _ in numbered)

    def of(self, path: ModulePath, tensor: StoredTensor) -> float:
        """Of one row where it is an embedding, of k in n experts, else all of it."""
        if path.layer is None and is_embedding(path.name) and tensor.shape:
            return 1 / max(1, tensor.shape[0])
        if not self._active or not is_expert(tensor.name):
            return 1.0
        match = _EXPERT.match(tensor.name)
        count = self._counts[match[1]] if match else next(iter(tensor.shape), 1)
        return min(1.0, self._active / max(1, count))


def _with_tied_head(modules: list[Module], config: ModelConfig) -> list[Module]:
    """The head with no bytes of its own where it is the embedding."""
    embedding = next((module.name for module in modules if is_embedding(module.name)), "")
    return [
        Module(name=module.name, bytes=0, plain_bytes=0, tied_to=embedding)
        if is_head(module.name) and embedding and (config.is_tied or not module.plain_bytes)
        else module
        for module in modules
    ]
