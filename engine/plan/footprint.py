"""Bytes that a model will take once loaded, module by module, and with a given context."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

from msgspec.structs import replace

from engine.blueprints import ActivationPeak, Blueprint, CacheGrowth
from engine.checkpoint import ModelConfig, Verdict
from engine.errors import UnsupportedModel
from engine.plan.built import built_expert_bytes, built_modules
from engine.plan.cache import PREFILL_CHUNK, activation_bytes, layer_growth
from engine.plan.explain import gib
from engine.plan.in_place import converted_bytes, is_in_place
from engine.plan.module import Module
from engine.plan.packed import packed_file
from engine.plan.stored import gather, stored_expert_bytes, stored_modules, stored_parameters
from engine.plan.weights import is_merged, is_scattered, is_unpacked_on_load, weight_itemsize
from engine.values import Quantization, Value

__all__ = ["Footprint", "Module", "footprint_of"]


class Footprint(Value, frozen=True, kw_only=True):
    """What a model needs, before it is known where it goes.

    Attributes:
        folder: the checkpoint's folder.
        config: of the language model.
        modules: each once, in forward order.
        itemsize: bytes of one computed element.
        quantization: asked for on load; none where it does not apply.
        notes: sentences about what will not be as the checkpoint or the person asked.
        parameters: distinct ones, tied ones once.
        caches: what each layer's cache takes, in order.
        peaks: activations from a dry run, ascending; empty takes the closed form.
        step_ops: operations that one decode step dispatches; 0 where no dry run counted them.
        step_convolutions: among them.
        step_bytes: of large tensors that these read and write, weights and attention not counted.
        prompt_bytes: likewise, of a prompt of a few tokens.
        converted_bytes: of the weights, those that are stored in another dtype.
        kept_bytes: of the packed weights that an earlier load has left in the cache; 0 where there are none.
        is_exact: it comes from a dry run of the model's own class.
    """

    folder: Path
    config: ModelConfig
    modules: tuple[Module, ...]
    itemsize: int
    quantization: Quantization = Quantization.NONE
    notes: tuple[str, ...] = ()
    parameters: int = 0
    caches: tuple[CacheGrowth, ...] = ()
    peaks: tuple[ActivationPeak, ...] = ()
    step_ops: int = 0
    step_convolutions: int = 0
    step_bytes: int = 0
    prompt_bytes: int = 0
    converted_bytes: int = 0
    kept_bytes: int = 0
    is_exact: bool = False

    @property
    def weight_bytes(self) -> int:
        """Bytes of all modules, quantized where that was asked for."""
        return sum(module.bytes for module in self.modules)

    @property
    def is_in_place(self) -> bool:
        """Without a GPU, what lies on disk or in RAM unpacked is used as it is stored."""
        return not self.config.quantization and is_in_place(self.modules, self.converted_bytes)

    @property
    def largest_bytes(self) -> int:
        """Plain bytes of the largest module: held while one that rests elsewhere is computed."""
        return max((module.plain_bytes for module in self.modules), default=0)

    def module_kv_bytes(self, module: Module, context_window: int) -> int:
        """Bytes of one module's cache at the full window; 0 outside the main list."""
        if module.layer is None:
            return 0
        growth = self.caches[module.layer]
        tokens = min(context_window, growth.longest_tokens or context_window)
        return growth.constant_bytes + growth.bytes_per_token * tokens

    def kv_bytes(self, context_window: int) -> int:
        """Bytes of the whole KV cache at the full window."""
        return sum(self.module_kv_bytes(module, context_window) for module in self.modules)

    def activation_bytes(
        self, context_window: int, *, gpu: bool = False, chunk_tokens: int = PREFILL_CHUNK
    ) -> int:
        """Peak of one chunk of prefill, in bytes, beside weights and KV cache.

        A dry run tells that of the largest chunk; of it, a smaller one takes the part that the closed
        forms say.

        Args:
            context_window: tokens that the cache holds in the end.
            gpu: a GPU computes it, whose fused attention keeps no scores.
            chunk_tokens: computed at once.
        """
        closed = partial(activation_bytes, self.config, context_window, self.itemsize, gpu=gpu)
        if not self.peaks:
            return closed(chunk_tokens=chunk_tokens)
        seen = _between(self.peaks, context_window, lambda p: (gpu and p.gpu_bytes) or p.bytes)
        is_largest = chunk_tokens >= min(PREFILL_CHUNK, context_window)
        return seen if is_largest else round(seen * min(1.0, closed(chunk_tokens=chunk_tokens) / closed()))


def _between(
    peaks: tuple[ActivationPeak, ...], context_tokens: int, size: Callable[[ActivationPeak], int]
) -> int:
    """The peak at a length: on the line between two that are known, and never under the shortest one."""
    for left, right in pairwise(peaks):
        if left.context_tokens < context_tokens <= right.context_tokens:
            share = (context_tokens - left.context_tokens) / (right.context_tokens - left.context_tokens)
            return round(size(left) + share * (size(right) - size(left)))
    return size(peaks[0] if context_tokens <= peaks[0].context_tokens else peaks[-1])


def footprint_of(
    verdict: Verdict, quantization: Quantization = Quantization.NONE, blueprint: Blueprint | None = None
) -> Footprint:
    """Add up what a model needs, module by module.

    Args:
        verdict: of its folder.
        quantization: asked for on load.
        blueprint: from a dry run of its class; None adds up the headers, or what stands for them.

    Raises:
        UnsupportedModel: neither headers, nor its family, nor a dry run tells what it is made of.
    """
    config = verdict.config
    if not verdict.tensors and blueprint is None:
        family = config.model_type or "this family"
        message = f"Nothing here tells what a model of {family} is made of."
        raise UnsupportedModel(message, "Download its weights, or let a dry run build it.")
    asked = Quantization.NONE if config.quantization else quantization
    rows = () if _tells_all(blueprint, verdict) else gather(verdict.tensors)
    itemsize = weight_itemsize(config, verdict.tensors)
    if rows or blueprint is None:
        modules = stored_modules(rows, config, itemsize, asked)
        experts = stored_expert_bytes(rows, config, itemsize)
    else:
        modules = built_modules(blueprint, asked, rewrites=_rewrites(verdict))
        experts = built_expert_bytes(blueprint)
    if any(map(is_scattered, verdict.tensors)) or verdict.adapter:
        modules = tuple(replace(module, rewritten_bytes=module.plain_bytes) for module in modules)
    return Footprint(
        folder=verdict.folder,
        config=config,
        modules=modules,
        itemsize=itemsize,
        quantization=asked,
        notes=_notes(verdict, quantization, modules, experts),
        parameters=blueprint.parameters if blueprint else stored_parameters(rows, config),
        caches=_caches(config, blueprint, itemsize),
        peaks=blueprint.peaks if blueprint else (),
        step_ops=blueprint.step_ops if blueprint else 0,
        step_convolutions=blueprint.step_convolutions if blueprint else 0,
        step_bytes=blueprint.step_bytes if blueprint else 0,
        prompt_bytes=blueprint.prompt_bytes if blueprint else 0,
        converted_bytes=converted_bytes(verdict.tensors, config, itemsize),
        kept_bytes=kept.bytes if (kept := packed_file(verdict, asked)) else 0,
        is_exact=blueprint is not None,
    )


def _tells_all(blueprint: Blueprint | None, verdict: Verdict) -> bool:
    """A dry run tells the bytes of all weights; of those that stay packed as they are stored, headers do."""
    stays_packed = verdict.config.quantization and not is_unpacked_on_load(verdict.config)
    return blueprint is not None and not (stays_packed and verdict.tensors)


def _rewrites(verdict: Verdict) -> bool:
    """Loading stacks the checkpoint's experts, so that the disk tier cannot read them in place."""
    return not verdict.tensors or any(is_merged(tensor) for tensor in verdict.tensors)


def _caches(config: ModelConfig, blueprint: Blueprint | None, itemsize: int) -> tuple[CacheGrowth, ...]:
    """What each layer's cache takes: as a dry run saw it, else by the closed forms."""
    if blueprint is None or not blueprint.caches:
        return tuple(layer_growth(config, layer, itemsize) for layer in range(config.layers))
    known = {growth.layer: growth for growth in blueprint.caches}
    return tuple(known.get(layer) or CacheGrowth(layer=layer) for layer in range(config.layers))


def _notes(
    verdict: Verdict, quantization: Quantization, modules: tuple[Module, ...], expert_bytes: int
) -> tuple[str, ...]:
    asked = quantization is not Quantization.NONE
    config = verdict.config
    loaded, stored = gib(sum(module.bytes for module in modules)), gib(verdict.weight_bytes)
    unpacked = f"The {config.quantization} weights are unpacked while loading: {loaded} of {stored} stored."
    pairs = (
        (is_unpacked_on_load(config), unpacked),
        (
            asked and config.quantization,
            f"It is stored as {config.quantization} already; {quantization} is not applied.",
        ),
        (
            asked and not config.quantization and expert_bytes,
            f"{quantization} leaves {gib(expert_bytes)} of experts unpacked.",
        ),
    )
    return tuple(sentence for condition, sentence in pairs if condition)
