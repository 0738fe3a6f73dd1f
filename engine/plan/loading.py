"""How long a load takes: reading, packing, stacking, and the first forwards."""

from __future__ import annotations

from collections.abc import Sequence

from engine.plan.costs import named
from engine.plan.footprint import Footprint
from engine.values import LayerPlacement, MachineLimits, Quantization, Tier

READ_AHEAD_SHARE = 0.6
"""Of the RAM that is free: larger files are not read as a whole before they are converted."""
_FIXED_OPS = 130_000
"""Operations that take as long as the tokenizer, the classes and the skeleton."""
_PACKING_OPS = 250_000
"""Likewise as bitsandbytes, which is imported then."""
_TENSOR_OPS = 100
"""Likewise for each tensor that is put in its place."""
_WARM_UP_STEPS = 7
"""Forwards of one or a few tokens before a model counts as loaded."""
_WARM_UP_PROMPTS = 3
"""Prompts of a few tokens among them."""
_SLOW_WARM_UP_STEPS = 1
_SLOW_STEP_SECONDS = 0.1
"""The pages of such a model that were read ahead serve its first forward."""
_FROM_DISK_STEPS = 3
"""Of one that is read for each token: a prompt that finds nothing read ahead takes two, a step the third."""
_UNSHARED_STEP_SECONDS, _UNSHARED_STEPS = 0.03, 6
"""Forwards that show whether a faster one is faster yet by one thread."""
_MEASURED_ITEMSIZE = 2
"""Of what was packed when its speed was measured."""
_PACKED_ITEMSIZE = {Quantization.INT8: 1.0, Quantization.NF4: 0.5625}
"""Bytes of an element, its part of the scales among them."""
_REWRITE_SHARE = 0.1
"""Of the speed of copying to new memory, where the memory is a new file's."""


def load_seconds(
    footprint: Footprint, layers: Sequence[LayerPlacement], limits: MachineLimits, step_seconds: float
) -> float:
    """Seconds from the command until it can be talked to, files not cached.

    Args:
        footprint: what the model needs.
        layers: every module's place.
        limits: of the machine.
        step_seconds: of one token at the beginning.
    """
    tensors = sum(module.tensors for module in footprint.modules)
    building = (_FIXED_OPS + _TENSOR_OPS * tensors) * limits.op_seconds
    reading = _reading_seconds(footprint, layers, limits)
    is_beside = _is_kept(footprint, layers) or _is_read_directly(footprint, layers)
    return (
        (max(building, reading) if is_beside else building + reading)
        + _stacking_seconds(footprint, layers, limits)
        + _packing_seconds(footprint, layers, limits)
        + _link_seconds(footprint, layers, limits)
        + _warm_up_steps(step_seconds, reads=_is_read_for_each_token(footprint, layers)) * step_seconds
        + _WARM_UP_PROMPTS * footprint.prompt_bytes / limits.copy_bandwidth
    )


def _warm_up_steps(step_seconds: float, *, reads: bool) -> int:
    if step_seconds > _SLOW_STEP_SECONDS:
        return _FROM_DISK_STEPS if reads else _SLOW_WARM_UP_STEPS
    return _WARM_UP_STEPS + (_UNSHARED_STEPS if step_seconds < _UNSHARED_STEP_SECONDS else 0)


def _reading_seconds(footprint: Footprint, layers: Sequence[LayerPlacement], limits: MachineLimits) -> float:
    """Read what rests in RAM, directly where it is used as it is stored; else read the files, and touch them.

    Where all lies on disk, only the forwards read.
    """
    if all(layer.tier is Tier.DISK for layer in layers):
        return 0.0
    if _is_kept(footprint, layers):
        return footprint.kept_bytes / limits.disk_bandwidth
    if _is_read_directly(footprint, layers):
        return sum(layer.bytes for layer in layers if layer.tier is Tier.CPU) / limits.disk_bandwidth
    size = sum(module.plain_bytes for module in footprint.modules)
    is_touched = 0 < READ_AHEAD_SHARE * limits.page_cache_bytes < size
    reader = limits.mapped_bandwidth if is_touched else min(limits.read_bandwidth, limits.disk_bandwidth)
    return size / reader + size / limits.cached_bandwidth


def _is_kept(footprint: Footprint, layers: Sequence[LayerPlacement]) -> bool:
    """Its packed weights come from the cache, ready for the CPU."""
    return footprint.kept_bytes > 0 and all(layer.tier is Tier.CPU for layer in layers)


def _is_read_directly(footprint: Footprint, layers: Sequence[LayerPlacement]) -> bool:
    """Without a GPU and unpacked; beside modules on disk, nothing is packed."""
    tiers = {layer.tier for layer in layers}
    is_plain = footprint.quantization is Quantization.NONE or Tier.DISK in tiers
    return is_plain and footprint.is_in_place and tiers <= {Tier.CPU, Tier.DISK}


def _is_read_for_each_token(footprint: Footprint, layers: Sequence[LayerPlacement]) -> bool:
    """By our own tier, past the page cache."""
    return _is_read_directly(footprint, layers) and any(layer.tier is Tier.DISK for layer in layers)


def _stacking_seconds(footprint: Footprint, layers: Sequence[LayerPlacement], limits: MachineLimits) -> float:
    """Stack experts in memory; those of the tier `disk` are written to files that are mapped."""
    if _is_kept(footprint, layers):
        return 0.0
    on_disk = {layer.name for layer in layers if layer.tier is Tier.DISK}
    rewritten = [(module.rewritten_bytes, module.name in on_disk) for module in footprint.modules]
    slowed = sum(size * (1 / _REWRITE_SHARE if is_written else 1) for size, is_written in rewritten)
    return slowed / limits.copy_bandwidth


def _packing_seconds(footprint: Footprint, layers: Sequence[LayerPlacement], limits: MachineLimits) -> float:
    """Import bitsandbytes and pack, where that was asked for."""
    if footprint.quantization is Quantization.NONE:
        return 0.0
    plain = {module.name: module.plain_bytes for module in footprint.modules}
    saved = sum(plain[layer.name] - layer.bytes for layer in layers if 0 < layer.bytes < plain[layer.name])
    elements = saved / (footprint.itemsize - _PACKED_ITEMSIZE[footprint.quantization])
    importing = _PACKING_OPS * limits.op_seconds if elements else 0.0
    rate = named(limits.quantize_bandwidth, str(footprint.quantization)) / _MEASURED_ITEMSIZE
    return importing if _is_kept(footprint, layers) else importing + elements / rate


def _link_seconds(footprint: Footprint, layers: Sequence[LayerPlacement], limits: MachineLimits) -> float:
    links = {gpu.device: gpu.link_bandwidth for gpu in limits.gpus}
    plain = {module.name: module.plain_bytes for module in footprint.modules}
    return sum(plain[layer.name] / links[layer.device] for layer in layers if layer.device in links)
