"""How fast a placement will be, from the bytes it moves and the limits of the machine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from engine.plan.cost import Cost, Way
from engine.plan.costs import ModuleCosts
from engine.plan.footprint import Footprint
from engine.plan.loading import load_seconds
from engine.values import Forecast, LayerPlacement, MachineLimits, Tier

PROMPT_TOKENS = 512
HOST_SECONDS = 3.5e-4
"""Of one token outside of the forward: choosing it, its text, its event."""
_BOUNDS = {
    "weights": "reading weights",
    "cache": "attention to the KV cache",
    "dispatch": "launching operations",
    "link": "copying weights to the GPU",
    "disk": "reading weights from the disk",
}


class Pace:
    """Seconds per token of one footprint on one machine, for any placement of its modules."""

    def __init__(self, footprint: Footprint, limits: MachineLimits) -> None:
        """Prepare what does not depend on the placement.

        Args:
            footprint: what the model needs.
            limits: of the machine.
        """
        self._modules = ModuleCosts(footprint, limits)
        self._is_in_place = footprint.is_in_place
        self._known: dict[tuple[LayerPlacement, str, int, Way], Cost] = {}

    def step_seconds(self, layers: Sequence[LayerPlacement], context_tokens: int) -> float:
        """Seconds of one token behind `context_tokens` others."""
        costs = self.costs(layers, context_tokens)
        return self._passed(layers, costs, sum(cost.working for cost in costs))

    def costs(self, layers: Sequence[LayerPlacement], context_tokens: int) -> list[Cost]:
        """What each module takes of one step, in the order of the layers."""
        main, way = main_gpu(layers), self._modules.way_of(layers)
        return [self._cost(layer, main, context_tokens, way) for layer in layers]

    def prompt_seconds(self, layers: Sequence[LayerPlacement], tokens: int) -> float:
        """Seconds of a prompt of so many tokens, where nothing is cached."""
        main = main_gpu(layers)
        seconds = sum(self._modules.prompt(layer, main, tokens) for layer in layers)
        return self._passed(layers, self.costs(layers, tokens // 2), seconds)

    def _passed(self, layers: Sequence[LayerPlacement], costs: Sequence[Cost], seconds: float) -> float:
        """Seconds of one pass with so many of work; what is read ahead of it takes none of its own."""
        disk = sum(cost.disk for cost in costs)
        reads_ahead = self._is_in_place and not main_gpu(layers)
        return HOST_SECONDS + (max(disk, seconds) if reads_ahead else disk + seconds)

    def _cost(self, layer: LayerPlacement, main: str, context_tokens: int, way: Way) -> Cost:
        key = (layer, main, context_tokens, way)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._modules.step(layer, main, context_tokens, way)
        return known


def main_gpu(layers: Sequence[LayerPlacement]) -> str:
    """The GPU that computes what rests elsewhere; empty where there is none."""
    return next((layer.device for layer in layers if layer.tier is Tier.GPU), "")


def forecast_of(
    footprint: Footprint, layers: Sequence[LayerPlacement], context_window: int, limits: MachineLimits
) -> Forecast:
    """Predict the speed of a placement.

    Args:
        footprint: what the model needs.
        layers: every module's place, in forward order.
        context_window: tokens.
        limits: of the machine.
    """
    pace = Pace(footprint, limits)
    half = pace.costs(layers, context_window // 2)
    prompt = min(PROMPT_TOKENS, context_window)
    learned = limits.learned.get(ratio_key(footprint, layers)) if limits.learned else None
    step, load = learned or (1.0, 1.0)
    return Forecast(
        decode_tps=1 / (step * pace.step_seconds(layers, context_window // 2)),
        decode_tps_empty=1 / (step * pace.step_seconds(layers, 0)),
        decode_tps_full=1 / (step * pace.step_seconds(layers, context_window)),
        time_to_first_token=pace.prompt_seconds(layers, prompt),
        prompt_tokens=prompt,
        load_seconds=load * load_seconds(footprint, layers, limits, pace.step_seconds(layers, 0)),
        bound=_bound(half),
        is_measured=_is_measured(layers, limits),
        is_learned=learned is not None,
    )


def ratio_key(footprint: Footprint, layers: Sequence[LayerPlacement]) -> str:
    """Names a model's shape, how its weights are stored, and the devices that hold them."""
    stored = sum(layer.bytes for layer in layers)
    places = sorted({f"{layer.tier} {layer.device}" for layer in layers})
    said = (msgspec.json.encode(footprint.config), footprint.quantization.value, stored, places)
    return hashlib.sha256(repr(said).encode()).hexdigest()[:16]


def _bound(costs: Sequence[Cost]) -> str:
    sums = {name: sum(getattr(cost, name) for cost in costs) for name in _BOUNDS}
    return _BOUNDS[max(sums, key=lambda name: sums[name])]


def _is_measured(layers: Sequence[LayerPlacement], limits: MachineLimits) -> bool:
    used = {layer.device for layer in layers}
    return limits.measured_at > 0 and all(gpu.is_measured for gpu in limits.gpus if gpu.device in used)
