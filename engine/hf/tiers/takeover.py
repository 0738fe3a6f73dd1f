"""Layers that accelerate would copy to a GPU, handed to the stream tier where it can serve them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import torch
from accelerate import cpu_offload
from torch.nn import Module

from engine.checkpoint import Verdict
from engine.hf.device_map import DeviceMap
from engine.hf.heap import layers_of
from engine.hf.protocols import CausalModel
from engine.hf.tiers.link import link_to
from engine.hf.tiers.reclaim import reclaim
from engine.hf.tiers.stream import MakeLink, StreamTier, refusal
from engine.values import Placement, Quantization, Tier


class Takeover(NamedTuple):
    """What serves the layers in RAM.

    Attributes:
        tier: ours; None where accelerate's hooks go on.
        reason: why they do, one sentence; empty where nothing has to be streamed, or ours serves it.
    """

    tier: StreamTier | None = None
    reason: str = ""


def streamed_names(placement: Placement, verdict: Verdict, mapped: DeviceMap) -> frozenset[str]:
    """Name the modules that the stream tier may serve; empty where the plan is not for it.

    One GPU, plain weights, and nothing on disk: what accelerate fetches from there has its own hooks.
    """
    gpus = {device for device in mapped.values() if isinstance(device, int)}
    is_plain = placement.quantization is Quantization.NONE and not verdict.config.quantization
    if len(gpus) != 1 or "disk" in mapped.values() or not is_plain:
        return frozenset()
    return frozenset(layer.name for layer in placement.layers if layer.tier is Tier.STREAM)


def take_over(
    model: CausalModel,
    names: Collection[str],
    device: torch.device,
    *,
    note: Callable[[int], None] = lambda _: None,
    make_link: MakeLink = link_to,
) -> Takeover:
    """Stream those of the layers that are named; modules that are no layers stay with accelerate.

    Args:
        model: as accelerate dispatched it.
        names: of modules in RAM; the inner model's prefix may lack.
        device: where they compute.
        note: is told the bytes taken so far, and may raise to stop the load.
        make_link: the way to the device.
    """
    layers = _chosen(model, names)
    if not layers:
        return Takeover()
    reclaim(layers.values())
    reason = refusal(model, layers.values())
    if reason:
        for layer in layers.values():
            cpu_offload(layer, execution_device=device)
        return Takeover(reason=reason)
    return Takeover(StreamTier.attach(layers, device, note=note, make_link=make_link))


def _chosen(model: CausalModel, names: Collection[str]) -> Mapping[int, Module]:
    """The named ones of the main list, by their place in it."""
    prefix = f"{model.base_model_prefix}."
    paths = {id(module): path for path, module in model.named_modules()}
    indexed = {index: paths[id(layer)] for index, layer in enumerate(layers_of(model))}
    modules = dict(model.named_modules())
    return {
        index: modules[path]
        for index, path in indexed.items()
        if path in names or path.removeprefix(prefix) in names
    }
