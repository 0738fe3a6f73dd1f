"""What each strategy takes among the ways that fit."""

from __future__ import annotations

import msgspec
import pytest

from engine.errors import InvalidValue
from engine.plan.runtime import GPU_RUNTIME_BYTES, RAM_RUNTIME_BYTES
from engine.plan.spread import full_before_next, last_full_first, same_share
from engine.values import Fits, MachineLimits, Placement, Strategy, Tier
from tests.engine.plan.making import GIB, MIB, PLENTY, budgets, gpu_limits, model, placed, usual_limits

ROOMY = (4 * GIB,) * 3


def layers_by_device(placement: Placement) -> dict[str, int]:
    counts: dict[str, int] = {}
    for layer in placement.layers:
        if ".layers." in layer.name:
            counts[layer.device] = counts.get(layer.device, 0) + 1
    return counts


def test_auto_takes_one_gpu_where_one_is_enough() -> None:
    placement = placed(model(layers=12), budgets(ROOMY), 1024)
    assert layers_by_device(placement) == {"gpu:0": 12}


def test_auto_takes_the_one_that_holds_it_all() -> None:
    placement = placed(model(layers=12), budgets((GIB, 4 * GIB)), 1024)
    assert layers_by_device(placement) == {"gpu:1": 12}


def test_auto_shares_among_all_gpus_what_one_cannot_hold() -> None:
    placement = placed(model(layers=60), budgets(ROOMY), 1024)
    assert placement.fits is Fits.GPU
    counts = layers_by_device(placement)
    assert set(counts) == {"gpu:0", "gpu:1", "gpu:2"}
    assert max(counts.values()) - min(counts.values()) <= 1
    assert counts["gpu:0"] == min(counts.values())


def test_balanced_shares_even_what_one_gpu_could_hold() -> None:
    placement = placed(model(layers=12), budgets(ROOMY), 1024, strategy=Strategy.BALANCED)
    assert layers_by_device(placement) == {"gpu:0": 4, "gpu:1": 4, "gpu:2": 4}
    assert placement.strategy is Strategy.BALANCED
    assert any(reason.startswith("balanced: every GPU") for reason in placement.reasons)


def test_balanced_gives_a_smaller_gpu_less() -> None:
    gpus = (GPU_RUNTIME_BYTES + 2 * GIB, GPU_RUNTIME_BYTES + GIB)
    counts = layers_by_device(placed(model(layers=18), budgets(gpus), 1024, strategy=Strategy.BALANCED))
    assert 1.5 <= counts["gpu:0"] / counts["gpu:1"] <= 2.5


def test_sequential_fills_each_gpu_before_the_next() -> None:
    placement = placed(model(layers=60), budgets(ROOMY), 1024, strategy=Strategy.SEQUENTIAL)
    first, second, third = placement.devices[:3]
    assert first.budget_bytes - first.predicted_bytes < 110 * MIB
    assert second.weight_bytes > third.weight_bytes


def test_sequential_uses_gpus_that_auto_leaves_out() -> None:
    given = budgets((GPU_RUNTIME_BYTES + 400 * MIB,))
    slow_link = usual_limits(given, link_bandwidth=1e9)
    auto = placed(model(), given, 1024, limits=slow_link)
    assert auto.tier_counts() == {Tier.CPU: 11}
    assert any("left out: the CPU alone is predicted faster" in reason for reason in auto.reasons)
    forced = placed(model(), given, 1024, limits=slow_link, strategy=Strategy.SEQUENTIAL)
    assert Tier.GPU in forced.tier_counts()
    assert auto.forecast
    assert forced.forecast
    assert auto.forecast.decode_tps > forced.forecast.decode_tps


def uneven(vram: tuple[float, ...]) -> MachineLimits:
    usual = usual_limits(budgets((1,) * len(vram)))
    gpus = tuple(gpu_limits(f"gpu:{at}", vram_bandwidth=speed) for at, speed in enumerate(vram))
    return msgspec.structs.replace(usual, gpus=gpus)


def test_auto_fills_the_fastest_gpu_first() -> None:
    limits = uneven((1e11, 1e12))
    small = placed(model(layers=12), budgets(ROOMY[:2]), 1024, limits=limits)
    assert layers_by_device(small) == {"gpu:1": 12}
    large = placed(model(layers=45), budgets(ROOMY[:2]), 1024, limits=limits)
    counts = layers_by_device(large)
    assert counts["gpu:1"] > 2 * counts["gpu:0"] > 0


@pytest.mark.parametrize("strategy", [Strategy.BALANCED, Strategy.SEQUENTIAL])
def test_without_a_usable_gpu_every_strategy_takes_the_cpu(strategy: Strategy) -> None:
    for gpus in ((), (100 * MIB,)):
        placement = placed(model(), budgets(gpus), 1024, strategy=strategy)
        assert placement.tier_counts() == {Tier.CPU: 11}


def test_a_gpu_in_the_way_never_costs_the_ram_that_cuda_would_take() -> None:
    ram = RAM_RUNTIME_BYTES + GIB + 100 * MIB
    for gpus in ((), (100 * MIB,)):
        assert placed(model(), budgets(gpus, ram), 1024).fits is Fits.GPU_RAM


def test_a_head_that_fits_beside_the_layers_is_kept_and_one_layer_more_is_moved() -> None:
    footprint = model(layer_bytes=600 * MIB, outer_bytes=500 * MIB)
    placement = placed(footprint, budgets((GPU_RUNTIME_BYTES + 3 * GIB,)), 256)
    (gpu, *_) = placement.devices
    elsewhere = [layer.bytes for layer in placement.layers if layer.tier is not Tier.GPU]
    assert gpu.budget_bytes - gpu.predicted_bytes < min(elsewhere)


def test_the_custom_strategy_needs_a_device_map() -> None:
    with pytest.raises(InvalidValue, match="needs a device_map"):
        placed(model(), budgets(), 1024, strategy=Strategy.CUSTOM)


@pytest.mark.parametrize("cut", [full_before_next, last_full_first, same_share])
def test_a_cut_covers_every_module_or_is_none(cut: object) -> None:
    assert callable(cut)
    sums = [0, 5, 7, 12, 13]
    assert cut(sums, [7, 6]) == [2, 4]
    assert cut(sums, [7, 0, 6]) == [2, 2, 4]
    assert cut(sums, [7, 5]) is None
    assert cut(sums, [-3, 13]) == [0, 4]
    assert cut(sums, []) is None


def test_the_same_share_leaves_the_first_one_least() -> None:
    sums = list(range(0, 101, 10))
    assert same_share(sums, [100] * 4) == [2, 4, 7, 10]
    assert same_share(sums, [200, 100, 100]) == [5, 7, 10]
    assert full_before_next(sums, [100] * 4) == [10, 10, 10, 10]
    assert last_full_first(sums, [PLENTY] * 2) == [0, 10]
