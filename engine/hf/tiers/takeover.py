"""Layers that accelerate would copy to a GPU, handed to the stream tier where it can serve them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
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

PLANNED_BUFFERS = 1


class Takeover(NamedTuple):
    """What serves the layers in RAM.

    Attributes:
        tier: ours; None where accelerate's hooks go on.
        reason: why they do, or ours is slow, one sentence; empty where there is nothing to tell.
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
    """Stream the layers that are named through one buffer, which is what the plan reserves on the GPU.

    The next layer is copied while resident ones compute. Beside other modules in RAM, which accelerate
    would fetch into more than that, nothing is taken over.

    Args:
        model: as accelerate dispatched it.
        names: of modules in RAM; the inner model's prefix may lack.
        device: where they compute.
        note: is told the bytes taken so far, and may raise to stop the load.
        make_link: the way to the device.
    """
    layers = _chosen(model, names)
    others = sorted(set(names) - _known_as(model, layers.values()))
    if others:
        return Takeover(reason=f"Its {others[0]} rests in RAM, too: accelerate copies it and its layers.")
    if not layers:
        return Takeover()
    reclaim(layers.values())
    reason = refusal(model, layers.values())
    if reason:
        for layer in layers.values():
            cpu_offload(layer, execution_device=device)
        return Takeover(reason=reason)
    tier = StreamTier.attach(layers, device, buffers=PLANNED_BUFFERS, note=note, make_link=make_link)
    slow = f"The driver does not lock the pages of {tier.refused} layers: they are copied slowly."
    return Takeover(tier, slow if tier.refused else "")


def _chosen(model: CausalModel, names: Collection[str]) -> Mapping[int, Module]:
    """The named ones of the main list, by their place in it."""
    return {
        index: layer
        for index, layer in enumerate(layers_of(model))
        if not _known_as(model, [layer]).isdisjoint(names)
    }


def _known_as(model: CausalModel, layers: Iterable[Module]) -> frozenset[str]:
    """What modules are called, with the inner model's prefix and without it."""
    wanted = {id(layer) for layer in layers}
    prefix = f"{model.base_model_prefix}."
    paths = [path for path, module in model.named_modules() if id(module) in wanted]
    return frozenset(name for path in paths for name in (path, path.removeprefix(prefix)))
