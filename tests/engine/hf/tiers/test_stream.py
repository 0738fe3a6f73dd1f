"""Streamed layers change no token, however they are mixed, left halfway or copied."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
import torch
from accelerate import cpu_offload
from transformers import AutoModelForCausalLM

from engine.hf.dryrun_layers import find_layers
from engine.hf.tiers.blob import ALIGNMENT, fill, host_block, layout_of, views
from engine.hf.tiers.link import CpuLink
from engine.hf.tiers.moved import bring_cache, moved
from engine.hf.tiers.reclaim import reclaim
from engine.hf.tiers.stream import StreamTier, refusal
from tests import tiny_models

CPU = torch.device("cpu")
TOKENS = 64
PLACEMENTS = {"all": (0, 1, 2, 3), "interleaved": (1, 3), "ends": (0, 3), "three": (0, 1, 2)}
POISON = 0xFF
"""Bytes of which every floating-point number is NaN."""


class PoisoningLink(CpuLink):
    """Copies as late as a slow link may, and spoils what was released."""

    def __init__(self, buffers: Sequence[torch.Tensor]) -> None:
        super().__init__(buffers)
        self._due: dict[int, int] = {}
        for buffer in buffers:
            buffer.fill_(POISON)

    def copy(self, layer: int, buffer: int) -> None:
        self._buffers[buffer].fill_(POISON)
        self._due[buffer] = layer

    def wait(self, buffer: int) -> None:
        if buffer in self._due:
            super().copy(self._due.pop(buffer), buffer)


def load(family: str) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_models.checkpoint(family), local_files_only=True).eval()


def layers_of(model: Any) -> list[torch.nn.Module]:
    return list(find_layers(model, 4).layers)


def replied(model: Any) -> list[int]:
    """64 greedy tokens behind a prompt, the end hidden so that none is missing."""
    ids = torch.arange(3, 40)[None]
    reply = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=TOKENS,
        min_new_tokens=TOKENS,
        do_sample=False,
    )
    return [int(token) for token in reply[0]]


@cache
def expected(family: str) -> list[int]:
    return replied(load(family))


@pytest.mark.parametrize(
    ("family", "placement"),
    [*((family, "three") for family in tiny_models.FAMILIES), *(("llama", name) for name in PLACEMENTS)],
)
def test_tokens_are_those_of_generate(family: str, placement: str) -> None:
    model = load(family)
    layers = layers_of(model)
    assert refusal(model, layers) == ""
    streamed = {index: layers[index] for index in PLACEMENTS[placement]}
    tier = StreamTier.attach(streamed, CPU, make_link=PoisoningLink)
    assert replied(model) == expected(family)
    tier.close()


@pytest.mark.parametrize("buffers", [1, 3, 9])
def test_any_number_of_buffers_serves(buffers: int) -> None:
    model = load("llama")
    tier = StreamTier.attach(dict(enumerate(layers_of(model))), CPU, buffers=buffers, make_link=PoisoningLink)
    assert tier.device_bytes == tier.ram_bytes // 4 * min(buffers, 4)
    assert replied(model) == expected("llama")


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "falcon_h1"])
def test_layers_that_the_cpu_computes_between_streamed_ones_change_no_token(family: str) -> None:
    model = load(family)
    tier = StreamTier.attach(dict(enumerate(layers_of(model))), CPU, make_link=PoisoningLink)
    for streamed in ((1, 3), ()):
        tier.follow(streamed)
        assert replied(model) == expected(family)


class LeftHalfway(Exception):  # noqa: N818 - it is what the test does
    """A forward ends between two layers."""


@pytest.mark.parametrize("last", [0, 2])
def test_a_forward_left_halfway_spoils_nothing(last: int) -> None:
    model = load("llama")
    layers = layers_of(model)
    StreamTier.attach(dict(enumerate(layers)), CPU, make_link=PoisoningLink)

    def leave(*_: object) -> None:
        raise LeftHalfway

    hook = layers[last].register_forward_pre_hook(leave)
    for _ in range(3):
        with pytest.raises(LeftHalfway):
            replied(model)
    hook.remove()
    assert replied(model) == expected("llama")


def test_between_forwards_the_weights_are_seen_in_ram() -> None:
    model, plain = load("llama"), load("llama")
    tier = StreamTier.attach(dict(enumerate(layers_of(model))), CPU, make_link=PoisoningLink)
    replied(model)
    for (name, weight), (_, same) in zip(model.named_parameters(), plain.named_parameters(), strict=True):
        assert torch.equal(weight, same), name
    tier.close()


def test_closing_frees_blocks_and_buffers() -> None:
    model = load("llama")
    links: list[CpuLink] = []

    def make_link(buffers: Sequence[torch.Tensor]) -> CpuLink:
        links.append(CpuLink(buffers))
        return links[0]

    tier = StreamTier.attach(dict(enumerate(layers_of(model))), CPU, make_link=make_link)
    weights: list[Any] = [
        weakref.ref(p.untyped_storage()) for layer in layers_of(model) for p in layer.parameters()
    ]
    buffers: list[Any] = [weakref.ref(buffer) for buffer in tier._buffers]
    tier.close()
    links.clear()
    gc.collect()
    assert not any(held() for held in (*weights, *buffers))
    assert not layers_of(model)[0]._forward_hooks
    assert all(not p.numel() for layer in layers_of(model) for p in layer.parameters())


def test_attaching_can_be_stopped() -> None:
    model = load("llama")
    told: list[int] = []

    def note(taken: int) -> None:
        told.append(taken)
        if len(told) == 2:
            raise LeftHalfway

    with pytest.raises(LeftHalfway):
        StreamTier.attach(dict(enumerate(layers_of(model))), CPU, note=note)
    assert told[1] == 2 * told[0]


def test_refuses_what_is_not_in_ram() -> None:
    model = load("llama")
    layers = layers_of(model)
    layers[1].to("meta")
    assert "is not in RAM" in refusal(model, layers)
    assert refusal(model, layers[2:]) == ""


def test_refuses_packed_shared_and_turned_weights() -> None:
    model = load("llama")
    layers = layers_of(model)
    linear: Any = layers[0].get_submodule("mlp.up_proj")
    weight = linear.weight

    class Packed(torch.nn.Parameter):
        """What a quantizer makes of a parameter."""

    linear.weight = Packed(weight.data)
    assert "stored as Packed" in refusal(model, layers)
    linear.weight = torch.nn.Parameter(weight.data.t().contiguous().t())
    assert "row by row" in refusal(model, layers)
    linear.weight = layers[1].get_submodule("mlp.up_proj").weight
    assert "shared" in refusal(model, layers[:1])


def test_takes_back_what_accelerate_has_offloaded() -> None:
    model = load("llama")
    layers = layers_of(model)
    for layer in layers:
        cpu_offload(layer, execution_device=CPU)
    assert "is not in RAM" in refusal(model, layers)
    reclaim(layers)
    assert refusal(model, layers) == ""
    StreamTier.attach(dict(enumerate(layers)), CPU, make_link=PoisoningLink)
    assert replied(model) == expected("llama")


def test_a_block_is_exact_and_aligned() -> None:
    tensors = [torch.randn(7, 3), torch.randn(5).half(), torch.arange(9, dtype=torch.int8)]
    layout = layout_of(tensors)
    block = host_block(layout.nbytes)
    fill(block, layout, tensors)
    assert block.nbytes == layout.nbytes == 3 * ALIGNMENT
    assert block.data_ptr() % 4096 == 0
    for view, tensor in zip(views(block, layout), tensors, strict=True):
        assert torch.equal(view, tensor)
        assert view.data_ptr() % ALIGNMENT == 0


def test_what_is_in_place_is_not_copied() -> None:
    tensor = torch.ones(2)
    value = (tensor, [tensor, 1], None)
    assert moved(value, CPU) is value


def test_tensors_move_wherever_they_lie() -> None:
    meta = torch.device("meta")
    out = moved({"states": (torch.ones(2), [torch.ones(1)]), "flag": True}, meta)
    assert out["states"][0].is_meta
    assert out["states"][1][0].is_meta
    assert out["flag"] is True


def test_a_cache_layer_moves_with_its_states() -> None:
    class Kept:
        def __init__(self) -> None:
            self.keys, self.length = torch.ones(2), 2

    class Cache:
        layers = [Kept(), Kept()]  # noqa: RUF012 - one for the test

    bring_cache((torch.ones(1), Cache()), 1, torch.device("meta"))
    assert Cache.layers[1].keys.is_meta
    assert not Cache.layers[0].keys.is_meta
    assert Cache.layers[1].length == 2
