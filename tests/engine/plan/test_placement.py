from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import DoesNotFit
from engine.plan import Footprint, Module, placement_for, require_real_devices
from engine.plan.runtime import CUDA_RAM_BYTES, GPU_RUNTIME_BYTES, RAM_RUNTIME_BYTES
from engine.values import Budget, Fits, Placement, Quantization, Tier
from tests.engine.checkpoint.test_config import parsed

MIB = 1 << 20
LAYERS = 8
PLENTY = 64 << 30
ORDER = (Fits.GPU, Fits.GPU_RAM, Fits.DISK, Fits.NO)


def model(
    layer_bytes: int = 100 * MIB,
    packed_bytes: int | None = None,
    rewritten_bytes: int = 0,
    tied: bool = False,
    layers: int = LAYERS,
) -> Footprint:
    packed = layer_bytes if packed_bytes is None else packed_bytes
    embedding = Module(name="model.embed_tokens", bytes=50 * MIB, plain_bytes=50 * MIB)
    blocks = [
        Module(
            name=f"model.layers.{layer}",
            bytes=packed,
            plain_bytes=layer_bytes,
            rewritten_bytes=rewritten_bytes,
            layer=layer,
        )
        for layer in range(layers)
    ]
    norm = Module(name="model.norm", bytes=1 * MIB, plain_bytes=1 * MIB)
    head_bytes = 0 if tied else 50 * MIB
    head = Module(
        name="lm_head",
        bytes=head_bytes,
        plain_bytes=head_bytes,
        tied_to="model.embed_tokens" if tied else "",
    )
    return Footprint(
        folder=Path("/m"),
        config=parsed(num_hidden_layers=layers, max_position_embeddings=32768),
        modules=(embedding, *blocks, norm, head),
        itemsize=2,
        quantization=Quantization.NONE if packed_bytes is None else Quantization.NF4,
    )


def budgets(gpus: tuple[int, ...] = (), ram: int = PLENTY, disk: int = PLENTY) -> tuple[Budget, ...]:
    return (
        *(Budget(device=f"gpu:{n}", free_bytes=size, uuid=f"GPU-{n}") for n, size in enumerate(gpus)),
        Budget(device="ram", free_bytes=ram, label="RAM"),
        Budget(device="disk", free_bytes=disk, label="disk"),
    )


def tiers(placement: Placement) -> list[str]:
    return [f"{layer.tier}@{layer.device}" for layer in placement.layers]


def test_without_a_gpu_everything_lies_in_ram_and_the_cpu_computes() -> None:
    placement = placement_for(model(), budgets())
    assert placement.tier_counts() == {Tier.CPU: LAYERS + 3}
    assert placement.fits is Fits.GPU_RAM
    assert placement.offload_folder is None


def test_a_large_gpu_takes_everything() -> None:
    placement = placement_for(model(), budgets((PLENTY,)))
    assert placement.tier_counts() == {Tier.GPU: LAYERS + 3}
    assert placement.fits is Fits.GPU
    plan = placement.devices[0]
    assert plan.kv_bytes
    assert plan.activation_bytes
    assert plan.runtime_bytes == GPU_RUNTIME_BYTES


def test_what_the_gpu_cannot_hold_is_streamed_from_ram() -> None:
    placement = placement_for(model(), budgets((GPU_RUNTIME_BYTES + 600 * MIB,)), 1024)
    kinds = tiers(placement)
    assert kinds[0] == "gpu@gpu:0"
    assert kinds[-1] == "stream@ram"
    assert kinds == sorted(kinds)
    assert placement.fits is Fits.GPU_RAM
    assert any("the GPUs may give" in reason for reason in placement.reasons)


def test_layers_are_contiguous_on_several_gpus_in_order() -> None:
    placement = placement_for(model(), budgets((GPU_RUNTIME_BYTES + 500 * MIB, PLENTY)), 1024)
    kinds = tiers(placement)
    assert kinds == sorted(kinds)
    assert set(kinds) == {"gpu@gpu:0", "gpu@gpu:1"}


def test_a_full_first_gpu_is_passed_over() -> None:
    placement = placement_for(model(), budgets((100 * MIB, PLENTY)), 1024)
    assert set(tiers(placement)) == {"gpu@gpu:1"}
    assert placement.devices[0].predicted_bytes == 0


def test_a_full_gpu_between_two_others_is_passed_over() -> None:
    placement = placement_for(model(), budgets((GPU_RUNTIME_BYTES + 500 * MIB, 0, PLENTY)), 1024)
    assert set(tiers(placement)) == {"gpu@gpu:0", "gpu@gpu:2"}


def test_what_ram_cannot_hold_stays_on_disk() -> None:
    ram = RAM_RUNTIME_BYTES + 600 * MIB
    placement = placement_for(model(), budgets(ram=ram), 1024, Path("/offload"))
    kinds = tiers(placement)
    assert kinds == sorted(kinds)
    assert set(kinds) == {"cpu@ram", "disk@disk"}
    assert placement.fits is Fits.DISK
    assert placement.offload_folder == Path("/offload")


def test_gpu_ram_and_disk_may_all_take_part() -> None:
    ram = RAM_RUNTIME_BYTES + CUDA_RAM_BYTES + 250 * MIB
    placement = placement_for(model(), budgets((GPU_RUNTIME_BYTES + 500 * MIB,), ram), 1024)
    assert list(placement.tier_counts()) == [Tier.GPU, Tier.STREAM, Tier.DISK]


def test_a_gpu_too_small_for_one_layer_leaves_the_work_to_the_cpu() -> None:
    placement = placement_for(model(), budgets((100 * MIB,)), 1024)
    assert placement.tier_counts() == {Tier.CPU: LAYERS + 3}


def test_a_tied_head_lies_beside_its_embedding() -> None:
    placement = placement_for(model(tied=True), budgets((GPU_RUNTIME_BYTES + 600 * MIB,)), 1024)
    first, last = placement.layers[0], placement.layers[-1]
    assert (last.tier, last.device, last.bytes) == (first.tier, first.device, 0)


def test_streamed_layers_are_plain_where_packed_ones_are_on_the_gpu() -> None:
    made = model(packed_bytes=30 * MIB)
    placement = placement_for(made, budgets((GPU_RUNTIME_BYTES + 300 * MIB,)), 1024)
    sizes = {layer.tier: layer.bytes for layer in placement.layers if "layers" in layer.name}
    assert sizes == {Tier.GPU: 30 * MIB, Tier.STREAM: 100 * MIB}
    assert placement.quantization is Quantization.NF4


def test_disk_needs_room_only_for_what_must_be_rewritten() -> None:
    tight = budgets(ram=RAM_RUNTIME_BYTES + 500 * MIB, disk=0)
    assert placement_for(model(), tight, 1024).fits is Fits.DISK
    assert placement_for(model(rewritten_bytes=90 * MIB), tight, 1024).fits is Fits.NO


def test_a_disk_budget_that_was_given_holds_for_everything_on_disk() -> None:
    given_disk = Budget(device="disk", free_bytes=0, given=True)
    ram = Budget(device="ram", free_bytes=RAM_RUNTIME_BYTES + 500 * MIB)
    assert placement_for(model(), (ram, given_disk), 1024).fits is Fits.NO


def test_what_fits_nowhere_is_refused_with_figures() -> None:
    placement = placement_for(model(), budgets(ram=100 * MIB), 4096)
    assert placement.fits is Fits.NO
    assert placement.layers == ()
    assert "4,096 tokens" in placement.reasons[0]
    assert "RAM needs" in placement.reasons[0]
    assert "has 100 MiB" in placement.reasons[0]


def test_no_budget_at_all_is_no_budget() -> None:
    assert placement_for(model(), ()).fits is Fits.NO


def test_the_context_is_what_was_asked_for_up_to_the_checkpoints_own() -> None:
    assert placement_for(model(), budgets(), 12345).context_window == 12345
    beyond = placement_for(model(), budgets(), 10**9)
    assert beyond.context_window == 32768
    assert any("made for no more" in reason for reason in beyond.reasons)


def test_unasked_the_context_is_comfortable() -> None:
    placement = placement_for(model(), budgets())
    assert placement.context_window == 8192
    assert any("8,192 of 32,768" in reason for reason in placement.reasons)


def test_unasked_the_context_gives_way_before_layers_move() -> None:
    made = model()
    short = placement_for(made, budgets(ram=PLENTY), 2048).devices[0]
    tight = budgets(ram=short.predicted_bytes)
    placement = placement_for(made, tight)
    assert placement.context_window == 2048
    assert placement.fits is Fits.GPU_RAM


def test_an_imagined_gpu_is_called_one() -> None:
    imagined = Budget(device="gpu:0", free_bytes=PLENTY, given=True)
    placement = placement_for(model(), (imagined, *budgets()))
    assert placement.fits is Fits.GPU
    assert any("has no gpu:0" in reason for reason in placement.reasons)
    with pytest.raises(DoesNotFit, match="gpu:0, which this machine does not have"):
        require_real_devices(placement)


def test_a_plan_for_real_devices_may_be_loaded() -> None:
    for plan in (placement_for(model(), budgets((PLENTY,))), placement_for(model(), budgets())):
        require_real_devices(plan)
        assert plan.fits is not Fits.NO


_sizes = st.integers(0, 3 << 30)
_footprints = st.builds(
    model,
    layer_bytes=st.integers(1, 400 * MIB),
    rewritten_bytes=st.just(0),
    tied=st.booleans(),
    layers=st.integers(1, 12),
)
_windows = st.sampled_from((None, 256, 4096, 32768))
_gpus = st.lists(_sizes, max_size=4).map(tuple)


@given(footprint=_footprints, gpus=_gpus, ram=_sizes, disk=_sizes, window=_windows)
def test_every_byte_is_placed_once_and_no_budget_is_exceeded(
    footprint: Footprint, gpus: tuple[int, ...], ram: int, disk: int, window: int | None
) -> None:
    placement = placement_for(footprint, budgets(gpus, ram, disk), window)
    for device in placement.devices:
        if placement.fits is not Fits.NO:
            assert device.predicted_bytes <= device.budget_bytes
    if placement.fits is Fits.NO:
        return
    assert [layer.name for layer in placement.layers] == [module.name for module in footprint.modules]
    assert sum(layer.bytes for layer in placement.layers) == footprint.weight_bytes
    assert sum(device.weight_bytes for device in placement.devices) == footprint.weight_bytes
    assert sum(device.kv_bytes for device in placement.devices) == footprint.kv_bytes(
        placement.context_window
    )
    untied = [layer for layer, m in zip(placement.layers, footprint.modules, strict=True) if not m.tied_to]
    places = [layer.device for layer in untied]
    assert places == sorted(
        places, key=lambda device: (not device.startswith("gpu"), device == "disk", device)
    )


def badness(placement: Placement) -> tuple[int, int, int]:
    off_gpu = [layer for layer in placement.layers if layer.tier is not Tier.GPU]
    on_disk = sum(layer.bytes for layer in off_gpu if layer.tier is Tier.DISK)
    return ORDER.index(placement.fits), on_disk, sum(layer.bytes for layer in off_gpu)


@given(
    footprint=_footprints,
    gpus=st.lists(_sizes, min_size=2, max_size=2).map(tuple),
    ram=_sizes,
    more=st.tuples(_sizes, _sizes, _sizes),
    window=st.sampled_from((256, 4096)),
)
def test_more_budget_is_never_worse(
    footprint: Footprint, gpus: tuple[int, ...], ram: int, more: tuple[int, int, int], window: int
) -> None:
    before = placement_for(footprint, budgets(gpus, ram), window)
    widened = budgets((gpus[0] + more[0], gpus[1] + more[1]), ram + more[2])
    assert badness(placement_for(footprint, widened, window)) <= badness(before) or before.fits is Fits.NO


def test_a_placement_crosses_the_wire() -> None:
    placement = placement_for(model(), budgets((PLENTY,)))
    assert (
        msgspec.msgpack.decode(msgspec.msgpack.encode(placement, enc_hook=str), type=Placement) == placement
    )


@pytest.mark.parametrize("layers", [200])
def test_two_hundred_layers_on_eight_gpus_are_placed_at_once(layers: int) -> None:
    placement = placement_for(model(layers=layers), budgets((GPU_RUNTIME_BYTES + 900 * MIB,) * 8))
    assert len(placement.layers) == layers + 3
