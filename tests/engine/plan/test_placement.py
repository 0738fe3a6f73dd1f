from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from engine.errors import DoesNotFit
from engine.plan import require_real_devices
from engine.plan.need import Need
from engine.plan.runtime import CUDA_RAM_BYTES, GPU_RUNTIME_BYTES, RAM_RUNTIME_BYTES
from engine.values import Budget, Fits, Placement, Quantization, Strategy, Tier
from tests.engine.plan.making import GIB, LAYERS, MIB, PLENTY, budgets, model, placed, tiers


def test_without_a_gpu_everything_lies_in_ram_and_the_cpu_computes() -> None:
    placement = placed(model(), budgets())
    assert placement.tier_counts() == {Tier.CPU: LAYERS + 3}
    assert placement.fits is Fits.GPU_RAM
    assert placement.offload_folder is None


def test_a_large_gpu_takes_everything() -> None:
    placement = placed(model(), budgets((PLENTY,)))
    assert placement.tier_counts() == {Tier.GPU: LAYERS + 3}
    assert placement.fits is Fits.GPU
    plan = placement.devices[0]
    assert plan.kv_bytes
    assert plan.activation_bytes
    assert plan.runtime_bytes == GPU_RUNTIME_BYTES


def test_what_the_gpu_cannot_hold_is_streamed_from_ram() -> None:
    placement = placed(model(), budgets((GPU_RUNTIME_BYTES + 600 * MIB,)), 1024)
    assert set(placement.tier_counts()) == {Tier.GPU, Tier.STREAM}
    layers = [
        tier for tier, layer in zip(tiers(placement), placement.layers, strict=True) if "layers" in layer.name
    ]
    assert layers == sorted(layers)
    assert placement.fits is Fits.GPU_RAM
    assert any("the GPUs may give" in reason for reason in placement.reasons)


def test_layers_are_contiguous_on_several_gpus_in_order() -> None:
    placement = placed(model(), budgets((GPU_RUNTIME_BYTES + 700 * MIB,) * 2), 1024)
    kinds = tiers(placement)
    assert kinds == sorted(kinds)
    assert set(kinds) == {"gpu@gpu:0", "gpu@gpu:1"}


def test_a_full_first_gpu_is_passed_over() -> None:
    placement = placed(model(), budgets((100 * MIB, PLENTY)), 1024)
    assert set(tiers(placement)) == {"gpu@gpu:1"}
    assert placement.devices[0].predicted_bytes == 0


def test_a_full_gpu_between_two_others_is_passed_over() -> None:
    enough = GPU_RUNTIME_BYTES + 700 * MIB
    for empty in (0, 100 * MIB):
        placement = placed(model(), budgets((enough, empty, enough)), 1024)
        assert set(tiers(placement)) == {"gpu@gpu:0", "gpu@gpu:2"}
        assert placement.devices[1].predicted_bytes == 0


def test_what_ram_cannot_hold_stays_on_disk() -> None:
    ram = RAM_RUNTIME_BYTES + 600 * MIB
    placement = placed(model(), budgets(ram=ram), 1024, offload_folder=Path("/offload"))
    kinds = tiers(placement)
    assert kinds == sorted(kinds)
    assert set(kinds) == {"cpu@ram", "disk@disk"}
    assert placement.fits is Fits.DISK
    assert placement.offload_folder == Path("/offload")


def test_gpu_ram_and_disk_may_all_take_part() -> None:
    ram = RAM_RUNTIME_BYTES + CUDA_RAM_BYTES + 250 * MIB
    given = budgets((GPU_RUNTIME_BYTES + 500 * MIB,), ram)
    placement = placed(model(), given, 1024, strategy=Strategy.SEQUENTIAL)
    assert set(placement.tier_counts()) == {Tier.GPU, Tier.STREAM, Tier.DISK}


def test_a_gpu_too_small_for_one_layer_leaves_the_work_to_the_cpu() -> None:
    placement = placed(model(), budgets((100 * MIB,)), 1024)
    assert placement.tier_counts() == {Tier.CPU: LAYERS + 3}


def test_a_tied_head_lies_beside_its_embedding() -> None:
    placement = placed(model(tied=True), budgets((GPU_RUNTIME_BYTES + 600 * MIB,)), 1024)
    first, last = placement.layers[0], placement.layers[-1]
    assert (last.tier, last.device, last.bytes) == (first.tier, first.device, 0)


def test_streamed_layers_are_plain_where_packed_ones_are_on_the_gpu() -> None:
    made = model(packed_bytes=30 * MIB)
    placement = placed(made, budgets((GPU_RUNTIME_BYTES + 250 * MIB,)), 1024)
    sizes = {layer.tier: layer.bytes for layer in placement.layers if "layers" in layer.name}
    assert sizes == {Tier.GPU: 30 * MIB, Tier.STREAM: 100 * MIB}
    assert placement.quantization is Quantization.NF4
    assert any("off the GPU unpacked" in reason for reason in placement.reasons)


def test_disk_needs_room_only_for_what_must_be_rewritten() -> None:
    tight = budgets(ram=RAM_RUNTIME_BYTES + 500 * MIB, disk=0)
    assert placed(model(), tight, 1024).fits is Fits.DISK
    assert placed(model(rewritten_bytes=90 * MIB), tight, 1024).fits is Fits.NO


def test_a_disk_budget_that_was_given_holds_for_everything_on_disk() -> None:
    given_disk = Budget(device="disk", free_bytes=0, given=True)
    ram = Budget(device="ram", free_bytes=RAM_RUNTIME_BYTES + 500 * MIB)
    assert placed(model(), (ram, given_disk), 1024).fits is Fits.NO


def test_what_fits_nowhere_is_refused_with_figures() -> None:
    placement = placed(model(), budgets(ram=100 * MIB), 4096)
    assert placement.fits is Fits.NO
    assert placement.layers == ()
    assert "4,096 tokens" in placement.reasons[0]
    assert "RAM needs" in placement.reasons[0]
    assert "has 100 MiB" in placement.reasons[0]
    assert "too little" in placement.reasons[0]


def test_no_budget_at_all_is_no_budget() -> None:
    assert placed(model(), ()).fits is Fits.NO


def test_the_context_is_what_was_asked_for_up_to_the_checkpoints_own() -> None:
    assert placed(model(), budgets(), 12345).context_window == 12345
    beyond = placed(model(), budgets(), 10**9)
    assert beyond.context_window == 32768
    assert any("made for no more" in reason for reason in beyond.reasons)


def test_unasked_the_context_is_comfortable() -> None:
    placement = placed(model(), budgets())
    assert placement.context_window == 8192
    assert any("8,192 of 32,768" in reason for reason in placement.reasons)


def test_unasked_the_context_gives_way_before_layers_move() -> None:
    made = model()
    short = placed(made, budgets(ram=PLENTY), 2048).devices[0]
    tight = budgets(ram=short.predicted_bytes)
    placement = placed(made, tight)
    assert placement.context_window == 2048
    assert placement.fits is Fits.GPU_RAM


def test_an_imagined_gpu_is_called_one() -> None:
    imagined = Budget(device="gpu:0", free_bytes=PLENTY, given=True)
    placement = placed(model(), (imagined, *budgets()))
    assert placement.fits is Fits.GPU
    assert any("has no gpu:0" in reason for reason in placement.reasons)
    with pytest.raises(DoesNotFit, match="gpu:0, which this machine does not have"):
        require_real_devices(placement)


def test_a_plan_for_real_devices_may_be_loaded() -> None:
    for plan in (placed(model(), budgets((PLENTY,))), placed(model(), budgets())):
        require_real_devices(plan)
        assert plan.fits is not Fits.NO


def test_a_placement_crosses_the_wire() -> None:
    placement = placed(model(), budgets((PLENTY,)))
    assert (
        msgspec.msgpack.decode(msgspec.msgpack.encode(placement, enc_hook=str), type=Placement) == placement
    )


@pytest.mark.parametrize("layers", [200])
def test_two_hundred_layers_on_eight_gpus_are_placed_at_once(layers: int) -> None:
    placement = placed(model(layers=layers), budgets((GPU_RUNTIME_BYTES + 900 * MIB,) * 8))
    assert len(placement.layers) == layers + 3


def test_a_large_embedding_on_disk_needs_no_room_to_be_read_ahead() -> None:
    footprint = model(100 * MIB, outer_bytes=2 * GIB)
    head = [
        m if m.name != "lm_head" else msgspec.structs.replace(m, bytes=MIB, plain_bytes=MIB)
        for m in footprint.modules
    ]
    footprint = msgspec.structs.replace(footprint, modules=tuple(head))
    need = Need(footprint, 512)
    room = RAM_RUNTIME_BYTES + need.kv_bytes + need.cpu_reserve_bytes(need.modules)
    assert room < 2 * GIB
    assert placed(footprint, budgets(ram=room), 512).fits is Fits.DISK
    assert placed(footprint, budgets(ram=room - 1), 512).fits is Fits.NO
