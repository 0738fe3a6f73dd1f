"""The modules of a checkpoint from its headers: what loading will make of the stored tensors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from engine.checkpoint import ModelConfig, StoredTensor
from engine.checkpoint.layers import main_list
from engine.checkpoint.parameters import parameters_of
from engine.plan.module import Module
from engine.plan.modules import ModuleNames, ModulePath, forward_order, is_embedding, is_head, is_unused
from engine.plan.weights import is_merged, is_quantizable, packed_rows, plain_bytes, quantized_bytes
from engine.values import Quantization

_EXPERTS = ".experts."
_MATRIX_AXES = 2
_MASK_AXES = 4


class Alike(NamedTuple):
    """Tensors of one layer that differ in the number of their expert alone; most often a single one.

    Attributes:
        tensor: the first of them.
        number: how many they are.
    """

    tensor: StoredTensor
    number: int

    @property
    def is_expert(self) -> bool:
        """They belong to routed experts."""
        return _EXPERTS in self.tensor.name


def gather(tensors: Iterable[StoredTensor]) -> list[Alike]:
    """Put the tensors of a layer's experts together: a checkpoint may have twenty thousand of them."""
    first: dict[object, StoredTensor] = {}
    counts: dict[object, int] = {}
    for tensor in tensors:
        path, found, rest = tensor.name.partition(_EXPERTS)
        expert, _, leaf = rest.partition(".")
        key = (path, leaf, tensor.shape, tensor.dtype) if found and expert.isdigit() else tensor.name
        first.setdefault(key, tensor)
        counts[key] = counts.get(key, 0) + 1
    return [Alike(tensor, counts[key]) for key, tensor in first.items()]


def stored_parameters(rows: Iterable[Alike], config: ModelConfig) -> int:
    """Distinct parameters, tied ones once."""
    return sum(row.number * parameters_of(row.tensor, config) for row in rows)


def stored_expert_bytes(rows: Iterable[Alike], config: ModelConfig, itemsize: int) -> int:
    """Bytes of experts, which quantizing on load leaves as they are."""
    return sum(row.number * plain_bytes(row.tensor, config, itemsize) for row in rows if row.is_expert)


def stored_modules(
    rows: Sequence[Alike], config: ModelConfig, itemsize: int, quantization: Quantization
) -> tuple[Module, ...]:
    """Every module of a checkpoint, in forward order.

    Args:
        rows: its tensors.
        config: of the model.
        itemsize: bytes of one computed element.
        quantization: that is applied on load.
    """
    how = _Loading(config, itemsize, quantization)
    modules = [_module(path, group, how) for path, group in _group(rows, config).items()]
    modules = _with_tied_head(modules, config)
    modules.sort(key=lambda module: forward_order(ModulePath(module.name, module.layer)))
    return tuple(modules)


def _group(rows: Sequence[Alike], config: ModelConfig) -> dict[ModulePath, list[Alike]]:
    names = ModuleNames(main_list((row.tensor for row in rows), config.layers), config.model_type)
    groups: dict[ModulePath, list[Alike]] = {}
    for row in rows:
        path = names.module_of(row.tensor.name)
        if not is_unused(path, config.layers) and not _is_mask(row.tensor, config):
            groups.setdefault(path, []).append(row)
    if not any(is_head(path.name) for path in groups):
        groups[ModulePath(names.head)] = []
    return groups


def _is_mask(tensor: StoredTensor, config: ModelConfig) -> bool:
    """Old checkpoints store the triangles of attention, which models make themselves now."""
    return len(tensor.shape) == _MASK_AXES and not parameters_of(tensor, config)


class _Loading(NamedTuple):
    """What loading does to stored tensors.

    Attributes:
        config: of the model.
        itemsize: bytes of one computed element.
        quantization: that is applied on load.
    """

    config: ModelConfig
    itemsize: int
    quantization: Quantization

    def plain_bytes(self, row: Alike) -> int:
        """Bytes of tensors without quantizing on load."""
        return row.number * plain_bytes(row.tensor, self.config, self.itemsize)

    def loaded_bytes(self, row: Alike, path: ModulePath) -> int:
        """Bytes of tensors as they are loaded: only what lies in the main list is packed."""
        packs = self.quantization is not Quantization.NONE and path.layer is not None
        if not packs or not is_quantizable(row.tensor, self.config):
            return self.plain_bytes(row)
        rows = packed_rows(row.tensor, self.config)
        return row.number * quantized_bytes(row.tensor.elements, rows, self.quantization)

    def widest_elements(self, rows: Iterable[Alike], path: ModulePath) -> int:
        """Elements of the largest matrix that quantizing would pack."""
        packable = (row for row in rows if path.layer is not None and is_quantizable(row.tensor, self.config))
        return max((row.tensor.elements for row in packable), default=0)

    def active_share(self, row: Alike, path: ModulePath) -> float:
        """The part that one token reads: a row of an embedding, k of n experts, else all of it."""
        if path.layer is None and is_embedding(path.name) and row.tensor.shape:
            return 1 / max(1, row.tensor.shape[0])
        if not self.config.active_experts or not row.is_expert:
            return 1.0
        count = row.number if is_merged(row.tensor) else next(iter(row.tensor.shape), 1)
        return min(1.0, self.config.active_experts / max(1, count))


def _module(path: ModulePath, rows: list[Alike], how: _Loading) -> Module:
    loaded = [how.loaded_bytes(row, path) for row in rows]
    read = sum(size * how.active_share(row, path) for row, size in zip(rows, loaded, strict=True))
    return Module(
        name=path.name,
        bytes=sum(loaded),
        plain_bytes=sum(how.plain_bytes(row) for row in rows),
        rewritten_bytes=sum(how.plain_bytes(row) for row in rows if is_merged(row.tensor)),
        layer=path.layer,
        active_share=read / (sum(loaded) or 1),
        tensors=sum(row.number for row in rows),
        widest_elements=how.widest_elements(rows, path),
        matrices=sum(len(row.tensor.shape) == _MATRIX_AXES and not row.is_expert for row in rows),
    )


def _with_tied_head(modules: list[Module], config: ModelConfig) -> list[Module]:
    """The head with no bytes of its own where it is the embedding."""
    embedding = next((module.name for module in modules if is_embedding(module.name)), "")
    return [
        Module(name=module.name, bytes=0, plain_bytes=0, tied_to=embedding)
        if is_head(module.name) and embedding and (config.is_tied or not module.plain_bytes)
        else module
        for module in modules
    ]
