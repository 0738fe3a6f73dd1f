"""Footprints, budgets and limits that tests of the placement plan with, whatever machine they run on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from engine.plan import Footprint, Module, placement_for
from engine.plan.cache import layer_growth
from engine.plan.limits import typical_limits
from engine.values import Budget, GpuLimits, MachineLimits, Placement, Quantization, Tier
from tests.engine.checkpoint.test_config import parsed

MIB = 1 << 20
GIB = 1 << 30
LAYERS = 8
PLENTY = 64 * GIB


def model(
    layer_bytes: int = 100 * MIB,
    packed_bytes: int | None = None,
    rewritten_bytes: int = 0,
    tied: bool = False,
    layers: int = LAYERS,
    outer_bytes: int = 50 * MIB,
    **config: Any,
) -> Footprint:
    packed = layer_bytes if packed_bytes is None else packed_bytes
    embedding = Module(
        name="model.embed_tokens", bytes=outer_bytes, plain_bytes=outer_bytes, active_share=1e-5, tensors=1
    )
    blocks = [
        Module(
            name=f"model.layers.{layer}",
            bytes=packed,
            plain_bytes=layer_bytes,
            rewritten_bytes=rewritten_bytes,
            layer=layer,
            tensors=9,
            matrices=7,
        )
        for layer in range(layers)
    ]
    norm = Module(name="model.norm", bytes=1 * MIB, plain_bytes=1 * MIB, tensors=1)
    head_bytes = 0 if tied else outer_bytes
    head = Module(
        name="lm_head",
        bytes=head_bytes,
        plain_bytes=head_bytes,
        tied_to="model.embed_tokens" if tied else "",
        tensors=0 if tied else 1,
    )
    said = parsed(num_hidden_layers=layers, max_position_embeddings=32768, **config)
    return Footprint(
        folder=Path("/m"),
        config=said,
        modules=(embedding, *blocks, norm, head),
        itemsize=2,
        caches=tuple(layer_growth(said, layer, itemsize=2) for layer in range(layers)),
        quantization=Quantization.NONE if packed_bytes is None else Quantization.NF4,
    )


def budgets(gpus: tuple[int, ...] = (), ram: int = PLENTY, disk: int = PLENTY) -> tuple[Budget, ...]:
    return (
        *(Budget(device=f"gpu:{n}", free_bytes=size, uuid=f"GPU-{n}") for n, size in enumerate(gpus)),
        Budget(device="ram", free_bytes=ram, label="RAM"),
        Budget(device="disk", free_bytes=disk, label="disk"),
    )


def gpu_limits(device: str, vram_bandwidth: float = 1e12, link_bandwidth: float = 3e10) -> GpuLimits:
    return GpuLimits(
        device=device,
        vram_bandwidth=vram_bandwidth,
        link_bandwidth=link_bandwidth,
        flops={"bfloat16": 1e14, "float16": 1e14, "float32": 1e13},
        op_seconds=5e-6,
        context_bytes=500 * MIB,
    )


def usual_limits(given: tuple[Budget, ...], link_bandwidth: float = 3e10) -> MachineLimits:
    """Typical figures, with GPUs that are alike and a link faster than the CPU reads."""
    names = [budget.device for budget in given if budget.device.startswith("gpu:")]
    gpus = tuple(gpu_limits(name, link_bandwidth=link_bandwidth) for name in names)
    return msgspec.structs.replace(typical_limits(), gpus=gpus, page_cache_bytes=0)


def placed(
    footprint: Footprint, given: tuple[Budget, ...], window: int | None = None, **wishes: Any
) -> Placement:
    wishes.setdefault("limits", usual_limits(given))
    return placement_for(footprint, given, window, **wishes)


def tiers(placement: Placement) -> list[str]:
    return [f"{layer.tier}@{layer.device}" for layer in placement.layers]


def moved(placement: Placement) -> list[str]:
    return [layer.name for layer in placement.layers if layer.tier is not Tier.GPU]
