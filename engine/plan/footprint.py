"""Bytes that a checkpoint will take once loaded, module by module, and with a given context."""

from __future__ import annotations

from pathlib import Path

from engine.checkpoint import ModelConfig, StoredTensor, Verdict
from engine.checkpoint.layers import main_list
from engine.plan.cache import activation_bytes, layer_kv_bytes
from engine.plan.explain import gib
from engine.plan.modules import ModuleNames, ModulePath, forward_order, is_embedding, is_head, is_unused
from engine.plan.weights import (
    is_merged,
    is_quantizable,
    is_unpacked_on_load,
    plain_bytes,
    quantized_bytes,
    weight_itemsize,
)
from engine.values import Quantization, Value


class Module(Value, frozen=True, kw_only=True):
    """One module that is placed as a whole.

    Attributes:
        name: as accelerate's device_map wants it.
        bytes: its weights once loaded, quantized where that was asked for.
        plain_bytes: the same without quantizing on load.
        rewritten_bytes: of plain_bytes, what the disk tier cannot read in place.
        layer: its index in the main list; None outside of it.
        tied_to: the module whose weights it shares; empty for none.
    """

    name: str
    bytes: int
    plain_bytes: int
    rewritten_bytes: int = 0
    layer: int | None = None
    tied_to: str = ""


class Footprint(Value, frozen=True, kw_only=True):
    """What a model needs, before it is known where it goes.

    Attributes:
        folder: the checkpoint's folder.
        config: of the language model.
        modules: each once, in forward order.
        itemsize: bytes of one computed element.
        quantization: asked for on load; none where it does not apply.
        notes: sentences about what will not be as the checkpoint or the person asked.
    """

    folder: Path
    config: ModelConfig
    modules: tuple[Module, ...]
    itemsize: int
    quantization: Quantization = Quantization.NONE
    notes: tuple[str, ...] = ()

    @property
    def weight_bytes(self) -> int:
        """Bytes of all modules, quantized where that was asked for."""
        return sum(module.bytes for module in self.modules)

    @property
    def largest_bytes(self) -> int:
        """Plain bytes of the largest module: held while one that rests elsewhere is computed."""
        return max((module.plain_bytes for module in self.modules), default=0)

    def module_kv_bytes(self, module: Module, context_window: int) -> int:
        """Bytes of one module's cache at the full window; 0 outside the main list."""
        if module.layer is None:
            return 0
        return layer_kv_bytes(self.config, module.layer, context_window, self.itemsize)

    def kv_bytes(self, context_window: int) -> int:
        """Bytes of the whole KV cache at the full window."""
        return sum(self.module_kv_bytes(module, context_window) for module in self.modules)

    def activation_bytes(self, context_window: int) -> int:
        """Peak of one chunk of prefill, in bytes."""
        return activation_bytes(self.config, context_window, self.itemsize)


def footprint_of(verdict: Verdict, quantization: Quantization = Quantization.NONE) -> Footprint:
    """Add up a judged checkpoint's headers, module by module."""
    config = verdict.config
    asked = Quantization.NONE if config.quantization else quantization
    itemsize = weight_itemsize(config, verdict.tensors)
    groups = _group(verdict)
    modules = [_module(path, group, config, (itemsize, asked)) for path, group in groups.items()]
    modules = _with_tied_head(modules, config)
    modules.sort(key=lambda module: forward_order(ModulePath(module.name, module.layer)))
    return Footprint(
        folder=verdict.folder,
        config=config,
        modules=tuple(modules),
        itemsize=itemsize,
        quantization=asked,
        notes=_notes(verdict, quantization, itemsize),
    )


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
    path: ModulePath, tensors: list[StoredTensor], config: ModelConfig, how: tuple[int, Quantization]
) -> Module:
    itemsize, quantization = how
    packs = quantization is not Quantization.NONE and path.layer is not None
    plain = [plain_bytes(tensor, config, itemsize) for tensor in tensors]
    loaded = [
        quantized_bytes(tensor, quantization) if packs and is_quantizable(tensor, config) else as_plain
        for tensor, as_plain in zip(tensors, plain, strict=True)
    ]
    rewritten = [size for tensor, size in zip(tensors, plain, strict=True) if is_merged(tensor)]
    return Module(
        name=path.name,
        bytes=sum(loaded),
        plain_bytes=sum(plain),
        rewritten_bytes=sum(rewritten),
        layer=path.layer,
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


def _notes(verdict: Verdict, quantization: Quantization, itemsize: int) -> tuple[str, ...]:
    config = verdict.config
    asked = quantization is not Quantization.NONE
    experts = sum(plain_bytes(t, config, itemsize) for t in verdict.tensors if _stays_plain(t))
    pairs = (
        (is_unpacked_on_load(config), f"The {config.quantization} weights are unpacked while loading."),
        (
            asked and config.quantization,
            f"It is stored as {config.quantization} already; {quantization} is not applied.",
        ),
        (
            asked and not config.quantization and experts,
            f"{quantization} leaves {gib(experts)} of experts unpacked.",
        ),
    )
    return tuple(sentence for condition, sentence in pairs if condition)


def _stays_plain(tensor: StoredTensor) -> bool:
    return ".experts." in tensor.name
