"""What must hold of every plan, whatever the model, the devices and the strategy."""

from __future__ import annotations

import msgspec
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engine.plan import Footprint
from engine.plan.need import Need
from engine.plan.strategies import ANSWER_TOKENS
from engine.values import Budget, Fits, Placement, Strategy, Tier
from tests.engine.plan.making import GIB, MIB, budgets, model, placed, usual_limits

Sizes = tuple[int, ...]

_sizes = st.integers(0, 6 * GIB)
_gpus = st.lists(_sizes, max_size=4).map(tuple)
_windows = st.sampled_from((256, 4096, 32768))
_strategies = st.sampled_from((Strategy.AUTO, Strategy.BALANCED, Strategy.SEQUENTIAL))
_footprints = st.builds(
    model,
    layer_bytes=st.integers(8 * MIB, 700 * MIB),
    packed_bytes=st.one_of(st.none(), st.integers(4 * MIB, 8 * MIB)),
    rewritten_bytes=st.just(0),
    tied=st.booleans(),
    layers=st.integers(1, 12),
    outer_bytes=st.integers(1 * MIB, 900 * MIB),
)


@given(footprint=_footprints, gpus=_gpus, ram=_sizes, disk=_sizes, window=_windows, strategy=_strategies)
def test_every_byte_is_placed_once_and_no_budget_is_exceeded(
    footprint: Footprint, gpus: Sizes, ram: int, disk: int, window: int, strategy: Strategy
) -> None:
    placement = placed(footprint, budgets(gpus, ram, disk), window, strategy=strategy)
    if placement.fits is Fits.NO:
        assert any(device.predicted_bytes > device.budget_bytes for device in placement.devices)
        return
    assert all(device.predicted_bytes <= device.budget_bytes for device in placement.devices)
    assert [layer.name for layer in placement.layers] == [module.name for module in footprint.modules]
    for layer, module in zip(placement.layers, footprint.modules, strict=True):
        assert layer.bytes in {module.bytes, module.plain_bytes}
        assert layer.tier is not Tier.GPU or layer.bytes == module.bytes
    by_device = {device.device: 0 for device in placement.devices}
    for layer in placement.layers:
        by_device[layer.device] += layer.bytes
    assert by_device == {device.device: device.weight_bytes for device in placement.devices}
    need = Need(footprint, window)
    assert sum(device.kv_bytes for device in placement.devices) == need.kv_bytes


@given(footprint=_footprints, gpus=_gpus, ram=_sizes, window=_windows, strategy=_strategies)
def test_layers_are_contiguous_on_every_gpu_and_a_plan_is_always_the_same(
    footprint: Footprint, gpus: Sizes, ram: int, window: int, strategy: Strategy
) -> None:
    placement = placed(footprint, budgets(gpus, ram), window, strategy=strategy)
    layers = [layer.device for layer in placement.layers if ".layers." in layer.name]
    changes = [device for device, before in zip(layers, ["", *layers], strict=False) if device != before]
    assert len(changes) == len(set(changes))
    assert placed(footprint, budgets(gpus, ram), window, strategy=strategy) == placement


def answer_seconds(placement: Placement) -> float:
    """Of the first token and some hundred more; endless where it does not fit."""
    said = placement.forecast
    return said.time_to_first_token + ANSWER_TOKENS / said.decode_tps if said else float("inf")


def tokens_per_second(placement: Placement) -> float:
    return placement.forecast.decode_tps if placement.forecast else 0.0


@settings(max_examples=200)
@given(
    footprint=_footprints,
    gpus=st.lists(_sizes, min_size=2, max_size=2).map(tuple),
    ram=_sizes,
    disk=_sizes,
    more=st.tuples(_sizes, _sizes, _sizes, _sizes),
    window=_windows,
    link=st.sampled_from((4e9, 3e10)),
)
def test_more_budget_never_predicts_slower_and_never_makes_it_unfit(
    footprint: Footprint, gpus: Sizes, ram: int, disk: int, more: Sizes, window: int, link: float
) -> None:
    tight = budgets(gpus, ram, disk)
    wide = budgets((gpus[0] + more[0], gpus[1] + more[1]), ram + more[2], disk + more[3])
    limits = usual_limits(tight, link)
    before = placed(footprint, tight, window, limits=limits)
    after = placed(footprint, wide, window, limits=limits)
    assert answer_seconds(after) <= 1.000001 * answer_seconds(before)


@given(
    footprint=_footprints,
    gpus=st.lists(st.integers(0, 12 * GIB), min_size=1, max_size=8).map(tuple),
    window=_windows,
)
def test_gpus_of_different_speeds_are_planned_for_too(footprint: Footprint, gpus: Sizes, window: int) -> None:
    given_budgets = budgets(gpus)
    limits = usual_limits(given_budgets)
    uneven = tuple(
        msgspec.structs.replace(gpu, vram_bandwidth=gpu.vram_bandwidth * (1 + at % 3))
        for at, gpu in enumerate(limits.gpus)
    )
    limits = msgspec.structs.replace(limits, gpus=uneven)
    auto = placed(footprint, given_budgets, window, limits=limits)
    assert all(device.predicted_bytes <= device.budget_bytes for device in auto.devices)
    in_order = placed(footprint, given_budgets, window, limits=limits, strategy=Strategy.SEQUENTIAL)
    assert tokens_per_second(auto) >= 0.999999 * tokens_per_second(in_order)


def idle_bytes(placement: Placement, device: str) -> int:
    plan = next(plan for plan in placement.devices if plan.device == device)
    return plan.budget_bytes - plan.predicted_bytes


@settings(max_examples=200)
@given(
    layer_bytes=st.integers(20 * MIB, 2 * GIB),
    outer_bytes=st.integers(20 * MIB, 2 * GIB),
    layers=st.integers(4, 40),
    tied=st.booleans(),
    gpu=st.integers(4 * GIB, 24 * GIB),
    window=_windows,
    strategy=_strategies,
)
def test_p10_a_gpu_beside_which_something_lies_elsewhere_is_full(
    layer_bytes: int, outer_bytes: int, layers: int, tied: bool, gpu: int, window: int, strategy: Strategy
) -> None:
    """At most 2 % and 300 MiB stay idle, or less than the smallest module that went elsewhere."""
    footprint = model(layer_bytes, tied=tied, layers=layers, outer_bytes=outer_bytes)
    given_budgets = budgets((gpu,), ram=512 * GIB)
    placement = placed(footprint, given_budgets, window, strategy=strategy)
    elsewhere = [layer.bytes for layer in placement.layers if layer.tier is not Tier.GPU and layer.bytes]
    assume(elsewhere and len(elsewhere) < len(placement.layers))
    assert idle_bytes(placement, "gpu:0") <= max(gpu // 50 + 300 * MIB, min(elsewhere))


@settings(max_examples=40)
@given(
    layer_bytes=st.integers(256 * MIB, GIB),
    gpus=st.lists(st.integers(6 * GIB, 24 * GIB), min_size=2, max_size=4).map(tuple),
    percent=st.integers(105, 200),
)
def test_p10_of_several_gpus_none_has_room_for_another_layer(
    layer_bytes: int, gpus: Sizes, percent: int
) -> None:
    footprint = model(layer_bytes, layers=sum(gpus) * percent // 100 // layer_bytes + 1)
    placement = placed(footprint, budgets(gpus, ram=512 * GIB), 4096, strategy=Strategy.SEQUENTIAL)
    assume(placement.fits is Fits.GPU_RAM)
    need = Need(footprint, 4096)
    one_more = layer_bytes + need.kv["model.layers.0"]
    used = {layer.device for layer in placement.layers}
    for at, size in enumerate(gpus):
        if f"gpu:{at}" in used:
            assert idle_bytes(placement, f"gpu:{at}") <= max(size // 50 + 300 * MIB, one_more)
    assert used.issuperset(f"gpu:{at}" for at in range(len(gpus)))


def test_two_hundred_layers_on_eight_gpus_leave_little_idle() -> None:
    gpus: tuple[Budget, ...] = budgets((3 * GIB,) * 8)
    placement = placed(model(layers=200), gpus, 4096)
    assert placement.fits is Fits.GPU_RAM
    assert all(idle_bytes(placement, f"gpu:{at}") <= 3 * GIB // 50 + 300 * MIB for at in range(8))
