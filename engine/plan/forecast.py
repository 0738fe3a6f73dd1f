"""How fast a placement will be, from the bytes it moves and the limits of the machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from engine.plan.footprint import Footprint, Module
from engine.plan.modules import is_embedding, is_head
from engine.values import Forecast, GpuLimits, LayerPlacement, MachineLimits, Tier

PROMPT_TOKENS = 512
_DTYPES = {2: "bfloat16", 4: "float32"}
_USUAL_LAYER_OPS = 45
_LOAD_SECONDS = 1.0
"""Tokenizer, classes, hooks: what every load takes beside its bytes."""


class Cost(NamedTuple):
    """Seconds that one module takes of one step, by what they go to."""

    weights: float = 0.0
    cache: float = 0.0
    dispatch: float = 0.0
    link: float = 0.0
    disk: float = 0.0

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.weights + self.cache + self.dispatch + self.link + self.disk


_BOUNDS = {
    "weights": "memory bandwidth",
    "cache": "reading the KV cache",
    "dispatch": "launching operations",
    "link": "copies to the GPU",
    "disk": "reading the disk",
}


class Pace:
    """Seconds per token of one footprint on one machine, for any placement of its modules."""

    def __init__(self, footprint: Footprint, limits: MachineLimits) -> None:
        """Look up what does not depend on the placement.

        Args:
            footprint: what the model needs.
            limits: of the machine.
        """
        self._footprint = footprint
        self._limits = limits
        self._gpus = {gpu.device: gpu for gpu in limits.gpus}
        self._dtype = footprint.config.dtype or _DTYPES.get(footprint.itemsize, "bfloat16")
        self._modules = {module.name: module for module in footprint.modules}
        self._costs: dict[tuple[str, Tier, str, bool, int], Cost] = {}
        maps = sum(m.plain_bytes for m in footprint.modules)
        self._is_cached = 0 < maps <= limits.page_cache_bytes

    def step_seconds(self, layers: Sequence[LayerPlacement], context_tokens: int) -> float:
        """Seconds of one token behind `context_tokens` others."""
        return sum(cost.seconds for cost in self.costs(layers, context_tokens))

    def costs(self, layers: Sequence[LayerPlacement], context_tokens: int) -> list[Cost]:
        """What each module takes of one step, in the order of the layers."""
        main = next((layer.device for layer in layers if layer.device in self._gpus), "")
        return [self._cost(layer, main, context_tokens) for layer in layers]

    def _cost(self, layer: LayerPlacement, main: str, context_tokens: int) -> Cost:
        module = self._modules[layer.name]
        is_packed = layer.bytes < module.plain_bytes and not module.tied_to
        device = layer.device if layer.tier is Tier.GPU else main
        key = (layer.name, layer.tier, device, is_packed, context_tokens)
        if key not in self._costs:
            self._costs[key] = self._computed(module, key)
        return self._costs[key]

    def _computed(self, module: Module, key: tuple[str, Tier, str, bool, int]) -> Cost:
        _, tier, device, is_packed, context_tokens = key
        read = self._read_bytes(module, packed=is_packed)
        kv = self._footprint.module_kv_bytes(module, context_tokens)
        gpu = self._gpus.get(device) if tier is not Tier.CPU else None
        cost = self._on_gpu(gpu, read, kv) if gpu else self._on_cpu(module, read, kv, packed=is_packed)
        rest = module.plain_bytes
        return cost._replace(
            link=rest / gpu.link_bandwidth if gpu and tier is not Tier.GPU else 0.0,
            disk=self._disk_seconds(rest) if tier is Tier.DISK else 0.0,
        )

    def _read_bytes(self, module: Module, *, packed: bool) -> int:
        if is_embedding(module.name):
            return 0
        if module.tied_to:
            return self._modules[module.tied_to].plain_bytes
        return module.bytes if packed else module.plain_bytes

    def _on_gpu(self, gpu: GpuLimits, read: int, kv: int) -> Cost:
        return Cost(
            weights=read / gpu.vram_bandwidth,
            cache=kv / gpu.vram_bandwidth,
            dispatch=_USUAL_LAYER_OPS * gpu.op_seconds,
        )

    def _on_cpu(self, module: Module, read: int, kv: int, *, packed: bool) -> Cost:
        limits = self._limits
        kind = str(self._footprint.quantization) if packed else self._dtype
        ops = _USUAL_LAYER_OPS if module.layer is not None else 1
        return Cost(
            weights=read / _named(limits.linear_bandwidth, kind),
            cache=kv / _named(limits.attention_bandwidth, self._dtype),
            dispatch=ops * limits.op_seconds,
        )

    def _disk_seconds(self, size: int) -> float:
        limits = self._limits
        bandwidth = limits.cached_bandwidth if self._is_cached else limits.mapped_bandwidth
        tensors = 8
        return size / bandwidth + tensors * limits.tensor_seconds if size else 0.0


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
    return Forecast(
        decode_tps=1 / sum(cost.seconds for cost in half),
        decode_tps_empty=1 / pace.step_seconds(layers, 0),
        decode_tps_full=1 / pace.step_seconds(layers, context_window),
        time_to_first_token=_prefill_seconds(footprint, half, limits, prompt),
        prompt_tokens=prompt,
        load_seconds=_load_seconds(footprint, layers, limits),
        bound=_bound(half),
        is_measured=limits.measured_at > 0,
    )


def _prefill_seconds(footprint: Footprint, costs: list[Cost], limits: MachineLimits, tokens: int) -> float:
    active = sum(m.plain_bytes for m in footprint.modules if not (is_embedding(m.name) or is_head(m.name)))
    flops = _named(limits.flops, footprint.config.dtype)
    moved = sum(cost.link + cost.disk + cost.dispatch for cost in costs)
    return moved + 2 * active / footprint.itemsize * tokens / flops


def _load_seconds(footprint: Footprint, layers: Sequence[LayerPlacement], limits: MachineLimits) -> float:
    plain = {module.name: module.plain_bytes for module in footprint.modules}
    resting = sum(plain[layer.name] for layer in layers if layer.tier is not Tier.DISK)
    packs = any(layer.bytes < plain[layer.name] for layer in layers)
    packed = resting / _named(limits.quantize_bandwidth, str(footprint.quantization)) if packs else 0.0
    return _LOAD_SECONDS + resting / limits.disk_bandwidth + packed


def _bound(costs: list[Cost]) -> str:
    sums = {name: sum(getattr(cost, name) for cost in costs) for name in Cost._fields}
    return _BOUNDS[max(sums, key=lambda name: sums[name])]


def _named(figures: dict[str, float], name: str) -> float:
    """A figure by name; the slowest where it was not measured."""
    return figures.get(name) or min(figures.values())
