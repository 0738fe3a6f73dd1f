"""Predicted speeds: what they rest on, and that a faster place is never predicted slower."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.plan import Footprint
from engine.plan.forecast import HOST_SECONDS, Pace, forecast_of, ratio_key
from engine.plan.limits import typical_limits
from engine.values import LayerPlacement, MachineLimits, Quantization, Tier
from tests.engine.plan.making import GIB, MIB, gpu_limits, model

WINDOW = 4096
IN_A_MODEL = 1.12
ORDER = (Tier.CPU, Tier.DISK)
GPU_ORDER = (Tier.GPU, Tier.STREAM, Tier.DISK)
DEVICES = {Tier.GPU: "gpu:0", Tier.STREAM: "ram", Tier.CPU: "ram", Tier.DISK: "disk"}


def limits(**changes: Any) -> MachineLimits:
    told = {"page_cache_bytes": 64 * GIB, "gpus": (gpu_limits("gpu:0"),)}
    return msgspec.structs.replace(typical_limits(), **(told | changes))


def layers_of(footprint: Footprint, *tiers: Tier, packed: bool = False) -> tuple[LayerPlacement, ...]:
    """Each module on its tier, the last tier for all that remain."""
    places = [tiers[min(index, len(tiers) - 1)] for index in range(len(footprint.modules))]
    return tuple(
        LayerPlacement(
            name=module.name,
            bytes=module.bytes if packed else module.plain_bytes,
            tier=tier,
            device=DEVICES[tier],
        )
        for module, tier in zip(footprint.modules, places, strict=True)
    )


def seconds(
    footprint: Footprint, *tiers: Tier, told: MachineLimits | None = None, packed: bool = False
) -> float:
    layers = layers_of(footprint, *tiers, packed=packed)
    return Pace(footprint, told or limits()).step_seconds(layers, WINDOW // 2)


def test_weights_in_ram_take_their_bytes_by_the_bandwidth_of_their_dtype() -> None:
    told = limits(op_seconds=0.0, cache_bandwidth=1e18, linear_bandwidth={"bfloat16": 10e9})
    free = {"bfloat16": 1e18}
    told = msgspec.structs.replace(told, attention_bandwidth=free, attention_flops=free)
    footprint = model(layers=10, dtype="bfloat16")
    read = sum(m.plain_bytes * m.active_share for m in footprint.modules)
    assert seconds(footprint, Tier.CPU, told=told) == pytest.approx(
        HOST_SECONDS + IN_A_MODEL * read / 10e9, rel=1e-3
    )


def test_states_that_are_passed_over_between_products_take_their_bytes_on_the_cpu() -> None:
    plain = model(layers=10, dtype="bfloat16")
    mixed = msgspec.structs.replace(plain, step_bytes=1_000_000_000)
    told = limits(linear_bandwidth={"bfloat16": 10e9, "float32": 5e9})
    longer = seconds(mixed, Tier.CPU, told=told) - seconds(plain, Tier.CPU, told=told)
    assert longer == pytest.approx(IN_A_MODEL * 1e9 / 5e9)
    assert seconds(mixed, Tier.GPU, told=told) == seconds(plain, Tier.GPU, told=told)


def test_a_convolution_takes_the_cpu_longer_than_other_operations_and_a_gpu_no_longer() -> None:
    plain = msgspec.structs.replace(model(layers=10), step_ops=400)
    mixed = msgspec.structs.replace(plain, step_convolutions=10)
    told = limits(op_seconds=1e-5)
    assert seconds(mixed, Tier.CPU, told=told) > seconds(plain, Tier.CPU, told=told) + 50e-5
    assert seconds(mixed, Tier.GPU, told=told) == seconds(plain, Tier.GPU, told=told)


def test_a_load_that_computes_long_blocks_for_its_first_prompts_takes_longer() -> None:
    plain = model()
    blocks = msgspec.structs.replace(plain, prompt_bytes=1 << 30)
    loads = [
        forecast_of(one, layers_of(one, Tier.CPU), WINDOW, limits()).load_seconds for one in (plain, blocks)
    ]
    assert loads[1] - loads[0] > 2 * (1 << 30) / limits().copy_bandwidth


def test_a_tied_head_reads_the_embedding_whole() -> None:
    own, tied = model(outer_bytes=500 * MIB), model(outer_bytes=500 * MIB, tied=True)
    assert seconds(tied, Tier.CPU) == pytest.approx(seconds(own, Tier.CPU))


def test_experts_cost_their_active_share_and_a_dispatch_each() -> None:
    dense = model()
    sparse = [m if m.layer is None else msgspec.structs.replace(m, active_share=0.25) for m in dense.modules]
    footprint = msgspec.structs.replace(dense, modules=tuple(sparse))
    config = msgspec.structs.replace(dense.config, experts=64, active_experts=16)
    many = msgspec.structs.replace(footprint, config=config)
    assert seconds(footprint, Tier.CPU) < 0.5 * seconds(dense, Tier.CPU)
    extra = seconds(many, Tier.CPU) - seconds(footprint, Tier.CPU)
    assert extra == pytest.approx(IN_A_MODEL * 8 * 2 * 64 * limits().op_seconds)


def test_packed_weights_are_fewer_bytes_of_another_speed() -> None:
    footprint = model(packed_bytes=28 * MIB)
    told = limits(linear_bandwidth={"bfloat16": 10e9, "nf4": 1e9}, linear_seconds={})
    assert footprint.quantization is Quantization.NF4
    assert seconds(footprint, Tier.CPU, told=told, packed=True) > seconds(footprint, Tier.CPU, told=told)


def test_a_longer_context_takes_longer() -> None:
    footprint = model()
    told = forecast_of(footprint, layers_of(footprint, Tier.CPU), 32_768, limits())
    assert told.decode_tps_empty > told.decode_tps > told.decode_tps_full


def test_a_sliding_window_takes_no_longer_beyond_its_length() -> None:
    footprint = model(sliding_window=1024)
    pace = Pace(footprint, limits())
    layers = layers_of(footprint, Tier.CPU)
    assert pace.step_seconds(layers, 2048) == pace.step_seconds(layers, 32_768)


def test_keys_in_float32_cost_more_than_fused_attention() -> None:
    fused, stepwise = model(model_type="llama"), model(model_type="gptj")
    assert seconds(stepwise, Tier.CPU) != seconds(fused, Tier.CPU)


def test_a_disk_whose_pages_are_cached_is_faster_than_one_that_is_read_where_hooks_fetch_them() -> None:
    footprint = model(rewritten_bytes=90 * MIB)
    cold = limits(page_cache_bytes=GIB // 2)
    assert seconds(footprint, Tier.DISK) < 0.5 * seconds(footprint, Tier.DISK, told=cold)


def test_mapped_weights_that_do_not_fit_are_read_again_for_each_token() -> None:
    footprint = model(layers=40, rewritten_bytes=90 * MIB)
    cold = limits(page_cache_bytes=1 * GIB)
    assert seconds(footprint, Tier.CPU, told=cold) > 3 * seconds(footprint, Tier.CPU)
    own = model(layers=40)
    assert seconds(own, Tier.CPU, told=cold) == seconds(own, Tier.CPU)


def test_what_is_read_ahead_takes_the_disk_or_the_work_whichever_is_longer() -> None:
    footprint = model(layers=40)
    size = sum(m.plain_bytes for m in footprint.modules if m.name != "model.embed_tokens")
    in_ram = seconds(footprint, Tier.CPU)
    assert seconds(footprint, Tier.DISK, told=limits(disk_bandwidth=1e9)) == pytest.approx(
        HOST_SECONDS + size / 1e9, rel=1e-3
    )
    assert seconds(footprint, Tier.DISK, told=limits(disk_bandwidth=1e12)) == pytest.approx(in_ram)


def test_what_is_read_ahead_is_read_whole_whatever_experts_are_chosen() -> None:
    dense = model()
    sparse = [m if m.layer is None else msgspec.structs.replace(m, active_share=0.25) for m in dense.modules]
    footprint = msgspec.structs.replace(dense, modules=tuple(sparse))
    told = limits(disk_bandwidth=1e9)
    assert seconds(footprint, Tier.DISK, told=told) == pytest.approx(seconds(dense, Tier.DISK, told=told))


def test_a_tied_head_on_disk_reads_the_embedding_whole() -> None:
    own, tied = model(outer_bytes=500 * MIB), model(outer_bytes=500 * MIB, tied=True)
    told = limits(disk_bandwidth=1e9)
    assert seconds(tied, Tier.DISK, told=told) == pytest.approx(seconds(own, Tier.DISK, told=told))


def test_a_load_reads_only_what_rests_in_ram_past_the_page_cache() -> None:
    footprint = model(layers=40)
    told = limits(disk_bandwidth=1e9, op_seconds=0.0, linear_bandwidth={"bfloat16": 1e15})
    layers = layers_of(footprint, *[Tier.CPU] * 21, Tier.DISK)
    in_ram = sum(layer.bytes for layer in layers if layer.tier is Tier.CPU)
    on_disk = sum(layer.bytes for layer in layers) - in_ram
    load = forecast_of(footprint, layers, WINDOW, told).load_seconds
    assert load == pytest.approx((in_ram + 3 * on_disk) / 1e9, rel=0.05)  # the disk's part by its warm-up


def test_many_tensors_in_a_file_make_each_of_them_slower_to_open() -> None:
    few = model(layers=8, rewritten_bytes=90 * MIB)
    many = model(layers=80, layer_bytes=10 * MIB, rewritten_bytes=9 * MIB)
    told = limits(tensor_seconds=1.0)
    assert seconds(many, Tier.DISK, told=told) > 50 * seconds(few, Tier.DISK, told=told)


def test_streaming_goes_at_the_speed_of_the_link() -> None:
    footprint = model(layers=20, layer_bytes=500 * MIB)
    told = limits(gpus=(gpu_limits("gpu:0", link_bandwidth=10e9),))
    streamed = seconds(footprint, Tier.GPU, Tier.STREAM, told=told)
    assert streamed == pytest.approx(20 * 500 * MIB / 10e9, rel=0.15)
    assert forecast_of(footprint, layers_of(footprint, Tier.GPU, Tier.STREAM), WINDOW, told).bound == (
        "copying weights to the GPU"
    )


def test_a_small_model_on_a_gpu_is_bound_by_launching() -> None:
    footprint = model(layer_bytes=1 * MIB, outer_bytes=1 * MIB)
    told = forecast_of(footprint, layers_of(footprint, Tier.GPU), WINDOW, limits())
    assert told.bound == "launching operations"


def test_a_large_model_on_a_gpu_is_bound_by_its_weights() -> None:
    footprint = model(layer_bytes=2 * GIB)
    told = forecast_of(footprint, layers_of(footprint, Tier.GPU), WINDOW, limits())
    assert told.bound == "reading weights"
    assert told.decode_tps == pytest.approx(1e12 / (16 * GIB), rel=0.1)


def test_a_load_builds_the_model_while_it_reads() -> None:
    footprint = model(layers=40)
    layers = layers_of(footprint, Tier.CPU)
    size = sum(layer.bytes for layer in layers)

    def loaded(**changes: Any) -> float:
        told = limits(linear_bandwidth={"bfloat16": 1e15}, attention_flops={}, **changes)
        return forecast_of(footprint, layers, WINDOW, told).load_seconds

    slow_disk = {"disk_bandwidth": size / 10}
    assert loaded(op_seconds=1e-6, **slow_disk) == pytest.approx(
        loaded(op_seconds=2e-6, **slow_disk), rel=0.01
    )
    slow_cores = {"op_seconds": 1e-4}
    assert loaded(disk_bandwidth=size, **slow_cores) == loaded(disk_bandwidth=2 * size, **slow_cores) > 10


def test_files_that_fill_the_free_ram_are_read_as_they_are_touched() -> None:
    footprint = model(packed_bytes=28 * MIB)
    layers = layers_of(footprint, Tier.CPU, packed=True)
    size = sum(module.plain_bytes for module in footprint.modules)
    seconds_of = {
        free: forecast_of(footprint, layers, WINDOW, limits(page_cache_bytes=int(free * size))).load_seconds
        for free in (1.5, 2.0, 4.0)
    }
    told = limits()
    longer = size / told.mapped_bandwidth - size / told.read_bandwidth
    assert seconds_of[1.5] - seconds_of[2.0] == pytest.approx(longer)
    assert seconds_of[2.0] == seconds_of[4.0]


def test_a_load_reads_its_files_and_packs_its_weights() -> None:
    plain, packed = model(), model(packed_bytes=28 * MIB)
    told = limits(read_bandwidth=1e9)
    loads = [
        forecast_of(plain, layers_of(plain, Tier.CPU), WINDOW, told).load_seconds,
        forecast_of(packed, layers_of(packed, Tier.CPU, packed=True), WINDOW, told).load_seconds,
    ]
    size = sum(m.plain_bytes for m in plain.modules)
    assert loads[0] > size / 1e9
    assert loads[1] - loads[0] > 800 * MIB / told.quantize_bandwidth["nf4"] * 0.9


def test_a_load_whose_packed_weights_were_kept_reads_them_alone() -> None:
    told = limits()
    packed = model(packed_bytes=28 * MIB)
    kept = msgspec.structs.replace(packed, kept_bytes=300 * MIB)
    first, second, beside_gpu = (
        forecast_of(footprint, layers_of(footprint, tier, packed=True), WINDOW, told).load_seconds
        for footprint, tier in ((packed, Tier.CPU), (kept, Tier.CPU), (kept, Tier.GPU))
    )
    assert first - second > 800 * MIB / told.quantize_bandwidth["nf4"] * 0.9
    assert second > 300 * MIB / told.disk_bandwidth
    assert beside_gpu > second


def test_stacking_experts_makes_a_load_longer_and_longer_on_disk() -> None:
    plain, stacked = model(), model(rewritten_bytes=90 * MIB)
    loads = [
        forecast_of(footprint, layers_of(footprint, *tiers), WINDOW, limits()).load_seconds
        for footprint, tiers in (
            (plain, (Tier.CPU,)),
            (stacked, (Tier.CPU,)),
            (stacked, (Tier.CPU, Tier.DISK)),
        )
    ]
    assert loads == sorted(loads)
    assert len(set(loads)) == len(loads)


def test_a_prompt_takes_longer_than_a_token_and_less_than_its_tokens_one_by_one() -> None:
    footprint = model()
    told = forecast_of(footprint, layers_of(footprint, Tier.CPU), WINDOW, limits())
    assert 1 / told.decode_tps < told.time_to_first_token < told.prompt_tokens / told.decode_tps


def test_a_forecast_says_whether_it_was_measured_on_the_devices_in_use() -> None:
    footprint = model()
    told = limits(measured_at=1.0)
    assert forecast_of(footprint, layers_of(footprint, Tier.CPU), WINDOW, told).is_measured
    assert not forecast_of(footprint, layers_of(footprint, Tier.GPU), WINDOW, told).is_measured
    assert not forecast_of(footprint, layers_of(footprint, Tier.CPU), WINDOW, limits()).is_measured


def test_what_was_learned_corrects_the_forecast_and_is_told() -> None:
    footprint = model()
    layers = layers_of(footprint, Tier.CPU)
    plain = forecast_of(footprint, layers, WINDOW, limits())
    told = limits(learned={ratio_key(footprint, layers): (2.0, 0.5)})
    learned = forecast_of(footprint, layers, WINDOW, told)
    assert learned.decode_tps == pytest.approx(plain.decode_tps / 2)
    assert learned.load_seconds == pytest.approx(plain.load_seconds / 2)
    assert (plain.is_learned, learned.is_learned) == (False, True)


def test_what_was_learned_of_another_placement_is_left_out() -> None:
    footprint = model()
    in_ram, on_disk = layers_of(footprint, Tier.CPU), layers_of(footprint, Tier.DISK)
    told = limits(learned={ratio_key(footprint, in_ram): (2.0, 0.5)})
    assert not forecast_of(footprint, on_disk, WINDOW, told).is_learned


SIZES = st.integers(1 * MIB, 4 * GIB)
PLACES = st.lists(st.sampled_from(ORDER), min_size=11, max_size=11)
CACHES = st.sampled_from((0, 1 * GIB, 64 * GIB))


@given(SIZES, PLACES, st.integers(0, 10), st.integers(0, 32_768), CACHES)
def test_moving_a_module_from_the_disk_to_ram_never_slows(
    size: int, places: list[Tier], moved: int, context: int, cache: int
) -> None:
    footprint = model(layer_bytes=size)
    pace = Pace(footprint, limits(page_cache_bytes=cache))
    slow, fast = [*places], [*places]
    slow[moved], fast[moved] = Tier.DISK, Tier.CPU
    before, after = (pace.step_seconds(layers_of(footprint, *tiers), context) for tiers in (slow, fast))
    assert after <= before


@given(
    SIZES,
    st.lists(st.sampled_from(GPU_ORDER), min_size=10, max_size=10),
    st.integers(0, 9),
    st.integers(0, 1),
    CACHES,
)
def test_moving_a_module_closer_to_the_gpu_never_slows(
    size: int, places: list[Tier], moved: int, step: int, cache: int
) -> None:
    footprint = model(layer_bytes=size)
    pace = Pace(footprint, limits(page_cache_bytes=cache))
    slow, fast = [Tier.GPU, *places], [Tier.GPU, *places]
    slow[moved + 1], fast[moved + 1] = GPU_ORDER[step + 1], GPU_ORDER[step]
    before, after = (pace.step_seconds(layers_of(footprint, *tiers), WINDOW) for tiers in (slow, fast))
    assert after <= before


@given(SIZES, st.floats(1.0, 10.0))
def test_a_faster_machine_is_never_predicted_slower(size: int, factor: float) -> None:
    footprint = model(layer_bytes=size)
    slow = limits(page_cache_bytes=GIB)
    fast = msgspec.structs.replace(
        slow,
        mapped_bandwidth=slow.mapped_bandwidth * factor,
        linear_bandwidth={name: speed * factor for name, speed in slow.linear_bandwidth.items()},
    )
    forecasts = [
        forecast_of(footprint, layers_of(footprint, Tier.CPU, Tier.DISK), WINDOW, told)
        for told in (slow, fast)
    ]
    assert forecasts[1].decode_tps >= forecasts[0].decode_tps
