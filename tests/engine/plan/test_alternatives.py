"""What would make a model fit, or fit better, is offered in order of least harm, with its forecast."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine.plan import Footprint
from engine.plan.runtime import CUDA_RAM_BYTES, GPU_RUNTIME_BYTES, RAM_RUNTIME_BYTES
from engine.values import Alternative, Budget, Fits, Placement, Quantization, Strategy
from tests.engine.plan.making import GIB, MIB, budgets, model, placed


def other(kind: Quantization) -> Footprint:
    """The same model at another quantization."""
    return kinds()[kind]


def kinds() -> dict[Quantization, Footprint]:
    packed = {Quantization.INT8: model(packed_bytes=51 * MIB), Quantization.NF4: model(packed_bytes=28 * MIB)}
    named = {kind: msgspec.structs.replace(made, quantization=kind) for kind, made in packed.items()}
    return {Quantization.NONE: model(), **named}


def offered(*given: Budget, window: int = 1024, **wishes: Any) -> Placement:
    wishes.setdefault("other", other)
    return placed(model(), given, window, **wishes)


def changes(placement: Placement) -> list[str]:
    return [alternative.change.partition(" ")[0] for alternative in placement.alternatives]


def holds(given: tuple[Budget, ...], alternative: Alternative) -> Fits:
    """What a plan says that follows an alternative."""
    ram = next(budget for budget in given if budget.device == "ram")
    disk = next(budget for budget in given if budget.device == "disk")
    wider = budgets(
        tuple(budget.free_bytes for budget in given if budget.device.startswith("gpu:")),
        ram.free_bytes + alternative.ram_bytes,
        disk.free_bytes + alternative.disk_bytes,
    )
    return placed(other(alternative.quantization), wider, alternative.context_window).fits


def test_a_plan_that_lies_in_the_best_place_offers_nothing() -> None:
    assert offered(*budgets((4 * GIB,))).alternatives == ()
    assert offered(*budgets()).alternatives == ()


def test_quantizing_comes_first_and_says_what_it_leaves() -> None:
    placement = offered(*budgets((GPU_RUNTIME_BYTES + 700 * MIB,)))
    assert placement.fits is Fits.GPU_RAM
    int8, nf4 = placement.alternatives[:2]
    assert (int8.quantization, nf4.quantization) == (Quantization.INT8, Quantization.NF4)
    assert int8.change.startswith("Quantize to int8: 509 MiB of weights, not 0.9 GiB; 101 MiB of embeddings")
    assert int8.fits is nf4.fits is Fits.GPU
    assert int8.forecast
    assert placement.forecast
    assert int8.forecast.decode_tps > placement.forecast.decode_tps


def test_a_shorter_context_is_the_longest_that_helps() -> None:
    given, long = budgets(ram=RAM_RUNTIME_BYTES + 1500 * MIB), model(head_dim=256)
    placement = placed(long, given, 32768)
    assert placement.fits is Fits.DISK
    shorter = next(a for a in placement.alternatives if a.context_window < 32768)
    assert shorter.change.startswith(f"Shorten the context to {shorter.context_window:,} tokens")
    assert shorter.fits is Fits.GPU_RAM
    assert placed(long, given, shorter.context_window).fits is Fits.GPU_RAM
    assert placed(long, given, shorter.context_window + 256).fits is Fits.DISK


def test_for_every_better_place_there_is_a_context_the_longest_first() -> None:
    given = budgets((GPU_RUNTIME_BYTES + 1150 * MIB,), RAM_RUNTIME_BYTES + CUDA_RAM_BYTES + 400 * MIB)
    placement = placed(model(head_dim=1024), given, 32768)
    shorter = [a for a in placement.alternatives if a.change.startswith("Shorten")]
    windows = [alternative.context_window for alternative in shorter]
    assert windows == sorted(windows, reverse=True)
    levels = [[Fits.GPU, Fits.GPU_RAM, Fits.DISK].index(alternative.fits) for alternative in shorter]
    assert levels == sorted(set(levels), reverse=True)
    assert shorter


@pytest.mark.parametrize("gpus", [(), (GPU_RUNTIME_BYTES + 400 * MIB,)])
@pytest.mark.parametrize("ram", [RAM_RUNTIME_BYTES + CUDA_RAM_BYTES + 150 * MIB, 100 * MIB])
@pytest.mark.parametrize("disk", [64 * GIB, 0])
def test_whoever_follows_an_alternative_gets_what_it_says(gpus: tuple[int, ...], ram: int, disk: int) -> None:
    given = budgets(gpus, ram, disk)
    placement = offered(*given)
    for alternative in placement.alternatives:
        assert alternative.forecast
        assert holds(given, alternative) is alternative.fits
    if placement.fits in {Fits.NO, Fits.DISK}:
        assert any(alternative.ram_bytes for alternative in placement.alternatives)


def test_more_ram_is_named_to_the_byte() -> None:
    given = budgets(ram=RAM_RUNTIME_BYTES + 700 * MIB)
    (more,) = [a for a in placed(model(), given, 1024).alternatives if a.ram_bytes]
    enough = RAM_RUNTIME_BYTES + 700 * MIB + more.ram_bytes
    assert placed(model(), budgets(ram=enough), 1024).fits is Fits.GPU_RAM
    assert placed(model(), budgets(ram=enough - 1), 1024).fits is Fits.DISK
    assert more.change.startswith("Free ")


def test_what_the_person_capped_is_to_be_allowed_rather_than_freed() -> None:
    ram = Budget(device="ram", free_bytes=RAM_RUNTIME_BYTES + 700 * MIB, given=True)
    (more,) = [a for a in placed(model(), (ram, *budgets()[1:]), 1024).alternatives if a.ram_bytes]
    assert more.change.startswith("Allow (with --ram)")


def test_more_disk_is_offered_last_and_to_the_byte() -> None:
    given = (
        Budget(device="ram", free_bytes=RAM_RUNTIME_BYTES + 700 * MIB, label="RAM"),
        Budget(device="disk", free_bytes=10 * MIB, given=True),
    )
    placement = placed(model(), given, 1024)
    assert placement.fits is Fits.NO
    last = placement.alternatives[-1]
    assert last.disk_bytes > 0
    for size, fits in ((last.disk_bytes, Fits.DISK), (last.disk_bytes - 1, Fits.NO)):
        disk = Budget(device="disk", free_bytes=10 * MIB + size, given=True)
        assert placed(model(), (given[0], disk), 1024).fits is fits


def test_the_order_is_quantizing_context_ram_disk() -> None:
    given = (Budget(device="ram", free_bytes=RAM_RUNTIME_BYTES + 600 * MIB), budgets(disk=0)[1])
    order = ["Quantize", "Shorten", "Free", "Allow"]
    found = changes(placed(model(rewritten_bytes=90 * MIB), given, 4096, other=other))
    assert found
    assert [order.index(change) for change in found] == sorted(order.index(change) for change in found)


def test_what_is_packed_already_or_placed_by_hand_is_not_packed_again() -> None:
    given = budgets((GPU_RUNTIME_BYTES + 400 * MIB,))
    assert "Quantize" not in changes(offered(*given, other=lambda _: model()))
    assert "Quantize" not in changes(offered(*given, other=None))
    by_hand = offered(*given, strategy=Strategy.CUSTOM, device_map=(("", "cpu"),))
    assert by_hand.alternatives == ()
