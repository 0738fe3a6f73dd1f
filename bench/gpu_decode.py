"""P1, P2, P3: one token a step, all weights on the device, beside transformers' own generate()."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from bench.gpu_rig import Figure, Rig, kv_bytes, read_bytes

TWICE = 2.0


def resident(rig: Rig) -> Iterator[Figure]:
    """P1 and P3 on the 8B shape."""
    model = rig.build(rig.sizes.large)
    yield from _against_generate(rig, model, "P1", 0.55)
    yield from _long_context(rig, model)


def resident_small(rig: Rig) -> Iterator[Figure]:
    """P2 on the 0.6B shape."""
    yield from _against_generate(rig, rig.build(rig.sizes.small), "P2", 0.30)


def compiled(rig: Rig) -> Iterator[Figure]:
    """The peer that compiles, 0.6B shape: static cache, torch.compile, graphs."""
    yield _compiled(rig, rig.build(rig.sizes.small), "0.6B")


def compiled_large(rig: Rig) -> Iterator[Figure]:
    """The peer that compiles, 8B shape."""
    yield _compiled(rig, rig.build(rig.sizes.large), "8B")


def _against_generate(rig: Rig, model: Any, target_id: str, target: float) -> Iterator[Figure]:  # noqa: ANN401
    """Recorded steps behind a short prompt, and generate() on the same model."""
    near = rig.sizes.near
    seconds = _step_seconds(rig, model, near)
    limit = (read_bytes(model) + kv_bytes(model.config, near)) / rig.vram_bandwidth
    yield Figure(target_id, f"recorded steps, {near} tokens", 1 / seconds, "tok/s", limit / seconds, target)
    peer = _generate_seconds(rig, model)
    yield Figure("", "generate(), dynamic cache", 1 / peer, "tok/s", limit / peer)
    wanted = TWICE if target_id == "P1" else None
    yield Figure(target_id, "recorded steps beside generate()", peer / seconds, "x", peer / seconds, wanted)


def _long_context(rig: Rig, model: Any) -> Iterator[Figure]:  # noqa: ANN401 - likewise
    """P3: share of the limit far into the context, beside the share near its beginning."""
    shares = []
    for tokens in (rig.sizes.near, rig.sizes.far):
        seconds = _step_seconds(rig, model, tokens)
        limit = (read_bytes(model) + kv_bytes(model.config, tokens)) / rig.vram_bandwidth
        shares.append(limit / seconds)
        yield Figure("", f"recorded steps, {tokens} tokens", 1 / seconds, "tok/s", shares[-1])
    yield Figure("P3", "far beside near, KV accounted for", shares[1], "", shares[1] / shares[0], 0.85)


def _step_seconds(rig: Rig, model: Any, tokens: int) -> float:  # noqa: ANN401 - likewise
    """Seconds of one greedy token behind `tokens` others, each with its one wait for the host."""
    count = rig.sizes.steps
    steps = rig.steps(model, tokens + count + 1)
    steps.settle(tokens)

    def decode() -> None:
        token_id = 5
        for place in range(tokens, tokens + count):
            token_id = int(steps.step(token_id, place).argmax())

    return rig.seconds(decode) / count


def _generate_seconds(rig: Rig, model: Any, **options: object) -> float:  # noqa: ANN401 - likewise
    """Seconds of one token of generate(): a long reply less a short one, the prompt the same."""
    ids = torch.arange(3, 11, device=rig.device)[None]

    def reply(tokens: int) -> None:
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            do_sample=False,
            pad_token_id=0,
            **options,
        )

    count = rig.sizes.steps
    longer, shorter = rig.seconds(lambda: reply(count + 4), 3), rig.seconds(lambda: reply(4), 3)
    return max(longer - shorter, 1e-9) / count


def _compiled(rig: Rig, model: Any, name: str) -> Figure:  # noqa: ANN401 - likewise
    seconds = _generate_seconds(rig, model, cache_implementation="static")
    share = read_bytes(model) / rig.vram_bandwidth / seconds
    return Figure("", f"generate(), static cache, compiled, {name}", 1 / seconds, "tok/s", share)
