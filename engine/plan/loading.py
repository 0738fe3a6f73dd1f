"""How long a load takes: reading, packing, stacking, and the first forwards."""

from __future__ import annotations

from collections.abc import Sequence

from engine.plan.costs import named
from engine.plan.footprint import Footprint
from engine.values import LayerPlacement, MachineLimits, Quantization, Tier

_FIXED_OPS = 150_000
"""Operations that take as long as the tokenizer, the classes and the skeleton."""
_PACKING_OPS = 200_000
"""Likewise as bitsandbytes, which is imported then."""
_TENSOR_OPS = 100
"""Likewise for each tensor that is put in its place."""
_WARM_UP_STEPS = 12
"""Forwards of one or a few tokens before a model counts as loaded."""


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
    modules = {module.name: module for module in footprint.modules}
    resting = [modules[layer.name] for layer in layers if layer.tier is not Tier.DISK]
    read = sum(module.plain_bytes for module in resting)
    stacked = sum(module.rewritten_bytes for module in footprint.modules)
    tensors = sum(module.tensors for module in footprint.modules)
    fixed = (_FIXED_OPS + _TENSOR_OPS * tensors) * limits.op_seconds
    return (
        fixed
        + read / limits.read_bandwidth
        + read / limits.cached_bandwidth
        + stacked / limits.copy_bandwidth
        + _packing_seconds(footprint, layers, limits)
        + _link_seconds(footprint, layers, limits)
        + _WARM_UP_STEPS * step_seconds
    )


def _packing_seconds(footprint: Footprint, layers: Sequence[LayerPlacement], limits: MachineLimits) -> float:
    """Import bitsandbytes and pack, where that was asked for."""
    if footprint.quantization is Quantization.NONE:
        return 0.0
    plain = {module.name: module.plain_bytes for module in footprint.modules}
    packed = sum(plain[layer.name] for layer in layers if 0 < layer.bytes < plain[layer.name])
    importing = _PACKING_OPS * limits.op_seconds if packed else 0.0
    return importing + packed / named(limits.quantize_bandwidth, str(footprint.quantization))


def _link_seconds(footprint: Footprint, layers: Sequence[LayerPlacement], limits: MachineLimits) -> float:
    links = {gpu.device: gpu.link_bandwidth for gpu in limits.gpus}
    plain = {module.name: module.plain_bytes for module in footprint.modules}
    return sum(plain[layer.name] / links[layer.device] for layer in layers if layer.device in links)
