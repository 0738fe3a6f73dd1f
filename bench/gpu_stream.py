"""P4, P7, P15: half of the layers streamed from RAM, beside accelerate with the same layers there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch
from accelerate import cpu_offload
from transformers import DynamicCache

from bench.gpu_rig import Figure, Rig, read_bytes
from engine.hf.tiers.reclaim import reclaim
from engine.hf.tiers.schedule import spread_evenly
from engine.hf.tiers.stream import StreamTier, refusal

BEHIND = 64


def streamed(rig: Rig) -> Iterator[Figure]:
    """Measure accelerate first, then our tier on the same model."""
    model = rig.build(rig.sizes.large)
    layers = model.model.layers
    chosen = {index: layers[index] for index in spread_evenly(len(layers), len(layers) // 2)}
    for layer in chosen.values():
        layer.to("cpu")
    rig.free()
    reason = refusal(model, chosen.values())
    if reason:
        raise RuntimeError(reason)
    peer = _with_accelerate(rig, model, chosen)
    began = time.perf_counter()
    tier = StreamTier.attach(chosen, rig.device)
    yield Figure("", "page-locking", tier.ram_bytes / 1e9 / (time.perf_counter() - began), "GB/s")
    yield from _decode(rig, model, tier, peer)
    yield _prefill(rig, model, tier)
    yield _close(rig, tier)


def _with_accelerate(rig: Rig, model: Any, chosen: dict[int, Any]) -> float:  # noqa: ANN401 - any family
    for layer in chosen.values():
        cpu_offload(layer, execution_device=rig.device)
    seconds = _token_seconds(rig, model, 2)
    reclaim(chosen.values())
    return seconds


def _decode(rig: Rig, model: Any, tier: StreamTier, peer: float) -> Iterator[Figure]:  # noqa: ANN401 - likewise
    seconds = _token_seconds(rig, model, 8)
    on_device = (read_bytes(model) - tier.ram_bytes) / rig.vram_bandwidth
    limit = max(tier.ram_bytes / rig.link_bandwidth, on_device)
    yield Figure("P4", "streamed decode", 1 / seconds, "tok/s", limit / seconds, 0.90)
    yield Figure("", "accelerate, the same layers in RAM", 1 / peer, "tok/s", limit / peer)
    yield Figure("P4", "streamed decode beside accelerate", peer / seconds, "x", peer / seconds, 3.0)


@torch.inference_mode()
def _token_seconds(rig: Rig, model: Any, tokens: int) -> float:  # noqa: ANN401 - likewise
    cache = DynamicCache(config=model.config)
    ids = torch.arange(3, 3 + BEHIND, device=rig.device)[None]
    model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)

    def decode() -> None:
        token = ids[:, -1:]
        for _ in range(tokens):
            output = model(input_ids=token, past_key_values=cache, use_cache=True)
            token = output.logits[:, -1:].argmax(-1)
            token.item()

    return rig.seconds(decode, 3) / tokens


@torch.inference_mode()
def _prefill(rig: Rig, model: Any, tier: StreamTier) -> Figure:  # noqa: ANN401 - likewise
    tokens = rig.sizes.prompt
    ids = torch.arange(tokens, device=rig.device)[None] % model.config.vocab_size

    def prefill() -> None:
        cache = DynamicCache(config=model.config)
        model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)

    seconds = rig.seconds(prefill, 3)
    limit = max(read_bytes(model) * tokens / rig.flops, tier.ram_bytes / rig.link_bandwidth)
    return Figure("P7", f"streamed prefill of {tokens}", tokens / seconds, "tok/s", limit / seconds, 0.80)


def _close(rig: Rig, tier: StreamTier) -> Figure:
    """Seconds until pages and buffers are given back."""
    rig.wait()
    began = time.perf_counter()
    tier.close()
    rig.free()
    seconds = time.perf_counter() - began
    return Figure("P15", "closing the stream tier", seconds, "s", seconds, 1.0, most=True)
