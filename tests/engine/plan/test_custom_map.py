"""A device_map that the person wrote is followed to the letter, or refused with what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.errors import DoesNotFit, InvalidValue
from engine.plan import Footprint, Module, place
from engine.plan.custom_map import DeviceMap
from engine.plan.runtime import GPU_RUNTIME_BYTES
from engine.values import BudgetRequest, Fits, Placement, Quantization, Strategy, Tier
from tests.engine.checkpoint.making import checkpoint
from tests.engine.plan.making import GIB, MIB, PLENTY, budgets, model, placed

GPUS = (4 * GIB, 4 * GIB)


def custom(*device_map: tuple[str, str], footprint: Footprint | None = None, **more: Any) -> Placement:
    given = budgets(**{"gpus": GPUS, **more})
    wishes: dict[str, Any] = {"strategy": Strategy.CUSTOM, "device_map": device_map}
    return placed(footprint or model(), given, 1024, **wishes)


def places(placement: Placement) -> dict[str, str]:
    return {layer.name.removeprefix("model."): layer.device for layer in placement.layers}


def test_the_empty_path_is_the_whole_model() -> None:
    placement = custom(("", "gpu:1"))
    assert set(places(placement).values()) == {"gpu:1"}
    assert placement.fits is Fits.GPU
    assert placement.strategy is Strategy.CUSTOM
    assert placement.forecast


@pytest.mark.parametrize(
    ("asked", "device"),
    [
        ("0", "gpu:0"),
        ("cuda:1", "gpu:1"),
        ("GPU:1", "gpu:1"),
        ("cpu", "ram"),
        (" RAM ", "ram"),
        ("disk", "disk"),
    ],
)
def test_devices_go_by_the_names_that_people_use(asked: str, device: str) -> None:
    assert set(places(custom(("", asked))).values()) == {device}


def test_the_longest_path_decides_and_a_path_covers_whole_names_only() -> None:
    footprint = model(layers=12)
    placement = custom(
        ("", "cpu"), ("model", "0"), ("model.layers.1", "disk"), ("model.layers.3", "1"), footprint=footprint
    )
    found = places(placement)
    assert found["lm_head"] == "ram"
    assert found["embed_tokens"] == found["layers.0"] == found["layers.10"] == found["layers.11"] == "gpu:0"
    assert (found["layers.1"], found["layers.3"]) == ("disk", "gpu:1")
    tiers = {layer.device: layer.tier for layer in placement.layers}
    assert tiers == {"gpu:0": Tier.GPU, "gpu:1": Tier.GPU, "ram": Tier.STREAM, "disk": Tier.DISK}


def test_what_rests_elsewhere_is_held_by_the_first_gpu_in_cudas_order() -> None:
    placement = custom(("", "gpu:1"), ("model.layers.5", "cpu"), ("model.layers.6", "gpu:0"))
    first, second = placement.devices[:2]
    assert first.activation_bytes - second.activation_bytes == 100 * MIB
    assert first.kv_bytes * 3 == second.kv_bytes


def test_in_ram_alone_the_cpu_computes_and_quantizing_reaches_everything() -> None:
    packed = custom(("", "cpu"), footprint=model(packed_bytes=30 * MIB))
    assert packed.tier_counts() == {Tier.CPU: 11}
    assert packed.quantization is Quantization.NF4
    assert packed.devices[0].predicted_bytes == 0
    spilled = custom(("", "cpu"), ("model.layers.7", "disk"), footprint=model(packed_bytes=30 * MIB))
    assert spilled.quantization is Quantization.NONE
    assert {layer.bytes for layer in spilled.layers if "layers" in layer.name} == {100 * MIB}


def test_naming_a_module_twice_for_the_same_device_is_no_mistake() -> None:
    assert places(custom(("", "0"), ("lm_head", "1"), ("lm_head", "gpu:1")))["lm_head"] == "gpu:1"


@pytest.mark.parametrize(
    ("device_map", "message", "hint"),
    [
        (
            (("", "gpu:7"),),
            "sends the whole model to 'gpu:7', which is no device here",
            "There are gpu:0, gpu:1, cpu, disk.",
        ),
        ((("", "tpu"),), "'tpu', which is no device here", "gpu:1"),
        ((("", ""),), "'', which is no device here", "gpu:1"),
        ((("", "0"), ("lm_head", "0"), ("lm_head", "cpu")), "sends lm_head to gpu:0 and to ram", "once"),
        ((("", "0"), ("model.layer.3", "1")), "names model.layer.3, which the model", "model.layers.3"),
        ((("", "0"), ("wte", "1")), "names wte, which the model does not have", "model.embed_tokens"),
        ((("", "0"), ("model.layers.8", "1")), "names model.layers.8, which", "model.layers."),
        ((("", "0"), ("model.layers.3.mlp", "1")), "a part of model.layers.3, which stays whole", "itself"),
        ((("model.layers", "0"),), "leaves out model.embed_tokens, model.norm, lm_head.", '""'),
        (
            (("lm_head", "0"),),
            "leaves out model.embed_tokens, model.layers.0, model.layers.1 and 7 more",
            '""',
        ),
        ((("", "0"), ("x" * 300, "1")), "xxx..., which the model does not have", "model.embed_tokens"),
    ],
)
def test_each_mistake_is_told_in_one_sentence(device_map: DeviceMap, message: str, hint: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        custom(*device_map)
    assert message in caught.value.message
    assert caught.value.message.endswith(".")
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 200
    assert hint in caught.value.hint


def test_buffers_that_the_model_computes_need_no_place_of_their_own() -> None:
    rotary = Module(name="model.rotary_emb", bytes=512, plain_bytes=512, is_computed=True)
    plain = model()
    footprint = msgspec.structs.replace(plain, modules=(rotary, *plain.modules))
    parts = ("model.embed_tokens", "model.layers", "model.norm", "lm_head")
    found = places(custom(*((part, "1") for part in parts), footprint=footprint))
    assert found["rotary_emb"] == "gpu:1"


def test_a_tied_head_stays_with_its_embedding() -> None:
    tied = model(tied=True)
    together = places(custom(("", "0"), ("model.embed_tokens", "1"), footprint=tied))
    assert together["lm_head"] == together["embed_tokens"] == "gpu:1"
    assert places(custom(("model", "0"), footprint=tied))["lm_head"] == "gpu:0"
    custom(("model", "0"), ("lm_head", "0"), footprint=tied)
    with pytest.raises(InvalidValue, match=r"parts lm_head from model\.embed_tokens") as caught:
        custom(("model", "0"), ("lm_head", "cpu"), footprint=tied)
    assert "same device" in caught.value.hint


def test_a_map_beyond_a_budget_does_not_fit_and_says_which() -> None:
    placement = custom(("", "0"), gpus=(GPU_RUNTIME_BYTES + 500 * MIB, 4 * GIB))
    assert placement.fits is Fits.NO
    assert placement.layers == ()
    assert "gpu:0 needs" in placement.reasons[0]
    assert "gpu:1" not in placement.reasons[0]
    assert {device.device for device in placement.devices} == {"gpu:0", "gpu:1", "ram", "disk"}


def test_a_disk_that_was_given_too_little_is_named() -> None:
    footprint = model(rewritten_bytes=60 * MIB)
    assert custom(("", "disk"), footprint=footprint, disk=PLENTY).fits is Fits.DISK
    refused = custom(("", "disk"), footprint=footprint, disk=100 * MIB)
    assert "disk needs" in refused.reasons[0]


def test_a_folder_is_placed_by_a_map_and_refused_with_a_hint(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "m")
    wishes: dict[str, Any] = {"strategy": Strategy.CUSTOM, "device_map": (("", "cpu"),)}
    budgets_asked = BudgetRequest(disk_folder=tmp_path)
    assert place(folder, budgets=budgets_asked, **wishes).tier_counts() == {Tier.CPU: 5}
    tight = BudgetRequest(disk_folder=tmp_path, ram_bytes=MIB)
    with pytest.raises(DoesNotFit, match="RAM") as caught:
        place(folder, budgets=tight, **wishes)
    assert "Send less to that device" in caught.value.hint
