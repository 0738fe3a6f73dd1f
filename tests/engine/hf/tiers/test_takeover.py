"""Layers taken over from accelerate: the same logits, in the same order, or accelerate's hooks as before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
import torch
from accelerate import cpu_offload
from accelerate.hooks import attach_align_device_hook_on_blocks

from engine.checkpoint import Verdict, inspect_folder
from engine.errors import LoadCancelled
from engine.hf.device_map import DeviceMap
from engine.hf.tiers.link import CpuLink
from engine.hf.tiers.takeover import streamed_names, take_over
from engine.values import LayerPlacement, Placement, Quantization, Tier
from tests import tiny_models
from tests.engine.hf.tiers.test_stream import CPU, PoisoningLink, expected, layers_of, load, replied

LISTS = {
    "llama": "model.layers",
    "qwen3_moe": "model.layers",
    "gemma2": "model.layers",
    "gpt2": "transformer.h",
    "falcon_h1": "model.layers",
}
CHOSEN = (1, 3)
MAPPED: DeviceMap = {"model.embed_tokens": 0, "model.layers.0": 0, "model.layers.1": "cpu", "lm_head": 0}


def dispatched(family: str) -> Any:
    """A model of which accelerate fetches some layers, as it does beside a GPU."""
    model = load(family)
    for index in CHOSEN:
        cpu_offload(layers_of(model)[index], execution_device=CPU)
    return model


def names_of(family: str, *, prefix: bool = True) -> list[str]:
    path = LISTS[family] if prefix else LISTS[family].partition(".")[2]
    return [f"{path}.{index}" for index in CHOSEN]


def is_hooked(model: Any) -> list[bool]:
    return [any(hasattr(part, "_hf_hook") for part in layer.modules()) for layer in layers_of(model)]


class NotingLink(PoisoningLink):
    """Notes what is asked of it."""

    noted: list[tuple[str, int]]

    def __init__(self, buffers: Sequence[torch.Tensor]) -> None:
        super().__init__(buffers)
        self.noted = []

    def copy(self, layer: int, buffer: int) -> None:
        self.noted.append(("copy", buffer))
        super().copy(layer, buffer)

    def wait(self, buffer: int) -> None:
        self.noted.append(("wait", buffer))
        super().wait(buffer)

    def release(self, buffer: int) -> None:
        self.noted.append(("release", buffer))
        super().release(buffer)


@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize("family", LISTS)
def test_what_is_taken_over_changes_no_token(family: str, prefix: bool) -> None:
    model = dispatched(family)
    taken = take_over(model, names_of(family, prefix=prefix), CPU, make_link=PoisoningLink)
    assert taken.reason == ""
    assert taken.tier is not None
    assert not any(is_hooked(model))
    assert replied(model) == expected(family)
    taken.tier.close()


@pytest.mark.parametrize("family", LISTS)
def test_what_a_device_map_left_in_ram_is_taken_over(family: str) -> None:
    model = load(family)
    inner = {f"{model.base_model_prefix}.{name}" for name, _ in model.base_model.named_children()}
    modules = {*(inner - {LISTS[family]}), "lm_head", *(f"{LISTS[family]}.{index}" for index in range(4))}
    attach_align_device_hook_on_blocks(  # as dispatch_model does beside a GPU
        model,
        execution_device=dict.fromkeys([*modules, ""], CPU),
        offload={name: name in names_of(family) for name in modules},
    )
    assert all(parameter.is_meta for parameter in layers_of(model)[CHOSEN[0]].parameters())
    taken = take_over(model, names_of(family), CPU, make_link=PoisoningLink)
    assert taken.tier is not None
    assert replied(model) == expected(family)
    taken.tier.close()


def test_every_use_waits_for_its_copy_and_every_copy_for_the_release_before_it() -> None:
    links: list[NotingLink] = []

    def make_link(buffers: Sequence[torch.Tensor]) -> NotingLink:
        links.append(NotingLink(buffers))
        return links[0]

    model = dispatched("llama")
    taken = take_over(model, names_of("llama"), CPU, make_link=make_link)
    replied(model)
    orders: dict[int, list[str]] = {}
    for what, buffer in links[0].noted:
        orders.setdefault(buffer, []).append(what)
    assert set(orders) == {0}
    for order in orders.values():
        assert order[0] == "copy"
        between = " ".join(order).split("copy")[1:]
        assert all(set(part.split()) <= {"wait", "release"} for part in between)
        assert all(part.split()[::2] == ["wait"] * len(part.split()[::2]) for part in between)
    assert taken.tier is not None
    taken.tier.close()


def test_what_is_shared_stays_with_accelerate_and_the_reason_is_told() -> None:
    model = load("llama")
    layers: list[Any] = layers_of(model)
    layers[3].mlp.up_proj.weight = layers[0].mlp.up_proj.weight
    told = replied(model)
    for index in CHOSEN:
        cpu_offload(layers[index], execution_device=CPU)
    hooked = dispatched("llama")
    hooked_layers: list[Any] = layers_of(hooked)
    assert is_hooked(hooked) == [False, True, False, True]
    hooked_layers[2].mlp.up_proj.weight = torch.nn.Parameter(
        hooked_layers[2].mlp.up_proj.weight.data.t().contiguous().t()
    )
    taken = take_over(hooked, ["model.layers.1", "model.layers.2"], CPU, make_link=PoisoningLink)
    assert taken.tier is None
    assert "accelerate copies these layers" in taken.reason
    assert is_hooked(hooked) == [False, True, True, True]
    assert replied(hooked) == expected("llama") != told


@pytest.mark.parametrize("others", [["lm_head"], ["model.embed_tokens", "lm_head"]])
def test_beside_modules_that_are_no_layers_all_stay_with_accelerate_since_the_plan_has_one_buffer(
    others: list[str],
) -> None:
    model = dispatched("llama")
    taken = take_over(model, [*names_of("llama"), *others], CPU)
    assert taken.tier is None
    assert f"Its {min(others)} rests in RAM, too" in taken.reason
    assert is_hooked(model) == [False, True, False, True]


def test_pages_that_the_driver_does_not_lock_are_told() -> None:
    class Unlocked(CpuLink):
        refused = 2

    taken = take_over(dispatched("llama"), names_of("llama"), CPU, make_link=Unlocked)
    assert taken.tier is not None
    assert taken.reason.startswith("The driver does not lock the pages of 2 layers")
    taken.tier.close()


def test_without_layers_in_ram_nothing_is_taken_over() -> None:
    assert take_over(load("llama"), [], CPU) == (None, "")


def test_a_load_that_is_stopped_leaves_nothing_attached() -> None:
    def stop(_: int) -> None:
        raise LoadCancelled("The load was stopped.", "")

    model = dispatched("llama")
    with pytest.raises(LoadCancelled):
        take_over(model, names_of("llama"), CPU, note=stop, make_link=CpuLink)
    assert not any(layer._forward_pre_hooks for layer in layers_of(model))


def placement(quantization: Quantization = Quantization.NONE) -> Placement:
    layers = (
        LayerPlacement(name="model.layers.0", bytes=1, tier=Tier.GPU, device="gpu:0"),
        LayerPlacement(name="model.layers.1", bytes=1, tier=Tier.STREAM, device="ram"),
    )
    return Placement(context_window=64, layers=layers, quantization=quantization)


def verdict(quantization: str = "") -> Verdict:
    found = inspect_folder(tiny_models.checkpoint("llama"))
    config = msgspec.structs.replace(found.config, quantization=quantization)
    return msgspec.structs.replace(found, config=config)


def test_only_plain_weights_beside_one_gpu_are_taken_over() -> None:
    assert streamed_names(placement(), verdict(), MAPPED) == {"model.layers.1"}
    assert not streamed_names(placement(Quantization.NF4), verdict(), MAPPED)
    assert not streamed_names(placement(), verdict("fp8"), MAPPED)
    assert not streamed_names(placement(), verdict(), MAPPED | {"lm_head": 1})
    assert not streamed_names(placement(), verdict(), MAPPED | {"lm_head": "disk"})
    assert not streamed_names(placement(), verdict(), {"": "cpu"})
