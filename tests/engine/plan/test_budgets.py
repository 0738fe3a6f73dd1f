from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from engine.errors import DoesNotFit, NotACheckpoint
from engine.memory import GpuReading, MemoryReading, RamReading
from engine.offload import parent_folder
from engine.plan import live_budgets, place
from engine.plan.budgets import GPU_RESERVE_BYTES, RAM_RESERVE_BYTES
from engine.plan.explain import gib
from engine.values import BudgetRequest, DeviceLedger, Fits
from tests.engine.checkpoint.making import checkpoint

GIB = 1 << 30


def reading(*gpus: GpuReading) -> MemoryReading:
    return MemoryReading(at=0.0, ram=RamReading(total_bytes=64 * GIB, ram_used=24 * GIB), gpus=gpus)


def gpu(index: int, used: int = 0, problem: str = "") -> GpuReading:
    label = "H200"
    return GpuReading(
        index=index, uuid=f"GPU-{index}", label=label, vram_total=80 * GIB, vram_used=used, problem=problem
    )


def test_a_budget_is_what_is_free_less_a_reserve(tmp_path: Path) -> None:
    request = BudgetRequest(disk_folder=tmp_path)
    card, ram, disk = live_budgets(request, reading(gpu(0, used=30 * GIB)))
    assert 49 * GIB < card.free_bytes < 50 * GIB
    assert (card.device, card.uuid, card.label, card.given) == ("gpu:0", "GPU-0", "GPU 0 H200", False)
    assert (ram.free_bytes, ram.total_bytes) == (40 * GIB - RAM_RESERVE_BYTES, 64 * GIB)
    assert 0 < disk.free_bytes < disk.total_bytes


def test_a_given_figure_lowers_the_live_one_and_never_raises_it(tmp_path: Path) -> None:
    request = BudgetRequest(
        gpu=((0, 20 * GIB), (1, 999 * GIB)), ram_bytes=8 * GIB, disk_folder=tmp_path, disk_bytes=5
    )
    first, second, ram, disk = live_budgets(request, reading(gpu(0), gpu(1)))
    assert (first.free_bytes, ram.free_bytes, disk.free_bytes) == (20 * GIB, 8 * GIB, 5)
    assert second.free_bytes < 80 * GIB
    assert first.given
    assert ram.given
    assert disk.given


def test_a_gpu_that_is_not_there_is_imaginary(tmp_path: Path) -> None:
    request = BudgetRequest(gpu=((3, 20 * GIB),), disk_folder=tmp_path)
    card = live_budgets(request, reading())[0]
    assert (card.device, card.uuid, card.free_bytes, card.given) == ("gpu:3", "", 20 * GIB, True)


def test_a_gpu_that_cannot_be_read_gives_nothing_and_is_not_imagined(tmp_path: Path) -> None:
    request = BudgetRequest(gpu=((0, GIB),), disk_folder=tmp_path)
    devices = [budget.device for budget in live_budgets(request, reading(gpu(0, problem="n/a (lost)")))]
    assert devices == ["ram", "disk"]


def test_more_in_use_than_there_is_leaves_nothing(tmp_path: Path) -> None:
    full = MemoryReading(at=0.0, ram=RamReading(total_bytes=GIB, ram_used=GIB))
    assert live_budgets(BudgetRequest(disk_folder=tmp_path), full)[0].free_bytes == 0


def held(device: str, uuid: str = "", **sizes: int) -> DeviceLedger:
    return DeviceLedger(device=device, uuid=uuid, **sizes)


def test_what_the_engine_holds_on_a_gpu_counts_as_free(tmp_path: Path) -> None:
    request = BudgetRequest(disk_folder=tmp_path)
    before = reading(gpu(0, used=30 * GIB), gpu(1, used=30 * GIB))
    own = (held("gpu:0", "GPU-1", weight_bytes=15 * GIB, kv_bytes=4 * GIB, other_bytes=GIB),)
    plain, credited = live_budgets(request, before), live_budgets(request, before, own)
    assert credited[1].free_bytes - plain[1].free_bytes == 20 * GIB
    assert credited[0] == plain[0]


def test_the_engines_whole_process_counts_where_the_driver_tells_it(tmp_path: Path) -> None:
    request = BudgetRequest(disk_folder=tmp_path)
    card = gpu(0, used=30 * GIB)
    told = msgspec.structs.replace(card, own_bytes=21 * GIB, others_bytes=9 * GIB)
    own = (held("gpu:0", "GPU-0", weight_bytes=20 * GIB),)
    assert live_budgets(request, reading(told), own)[0].free_bytes == (80 - 9) * GIB - GPU_RESERVE_BYTES
    too_much = (held("gpu:0", "GPU-0", weight_bytes=99 * GIB),)
    assert live_budgets(request, reading(card), too_much)[0].free_bytes == 80 * GIB - GPU_RESERVE_BYTES


def test_other_peoples_memory_stays_theirs(tmp_path: Path) -> None:
    request = BudgetRequest(disk_folder=tmp_path, gpu=((0, 60 * GIB),))
    card = msgspec.structs.replace(gpu(0, used=50 * GIB), own_bytes=10 * GIB)
    assert live_budgets(request, reading(card))[0].free_bytes == 40 * GIB - GPU_RESERVE_BYTES


def test_of_ram_only_what_is_not_mapped_comes_back(tmp_path: Path) -> None:
    request = BudgetRequest(disk_folder=tmp_path)
    own = (held("ram", weight_bytes=15 * GIB, kv_bytes=2 * GIB, other_bytes=GIB),)
    plain, credited = (live_budgets(request, reading(), ledgers)[0] for ledgers in ((), own))
    assert credited.free_bytes - plain.free_bytes == 3 * GIB
    ram = RamReading(total_bytes=64 * GIB, ram_used=24 * GIB, engine_anonymous_bytes=7 * GIB)
    told = live_budgets(request, MemoryReading(at=0.0, ram=ram), own)[0]
    assert told.free_bytes - plain.free_bytes == 7 * GIB


def test_a_cap_of_nothing_leaves_a_gpu_out(tmp_path: Path) -> None:
    request = BudgetRequest(gpu=((0, 0), (5, 0)), disk_folder=tmp_path)
    devices = [budget.device for budget in live_budgets(request, reading(gpu(0), gpu(1)))]
    assert devices == ["gpu:1", "ram", "disk"]


def test_a_cap_that_the_device_cannot_give_is_remembered(tmp_path: Path) -> None:
    request = BudgetRequest(gpu=((0, 999 * GIB),), ram_bytes=999 * GIB, disk_folder=tmp_path)
    card, ram, disk = live_budgets(request, reading(gpu(0)))
    assert card.asked_bytes == ram.asked_bytes == 999 * GIB
    assert card.free_bytes < 80 * GIB
    assert ram.free_bytes < 64 * GIB
    assert disk.asked_bytes is None


def test_beside_an_imaginary_gpu_ram_and_disk_are_as_they_were_given(tmp_path: Path) -> None:
    request = BudgetRequest(gpu=((0, 80 * GIB),), ram_bytes=999 * GIB, disk_bytes=2**55, disk_folder=tmp_path)
    card, ram, disk = live_budgets(request, reading())
    assert (card.free_bytes, ram.free_bytes, disk.free_bytes) == (80 * GIB, 999 * GIB, 2**55)
    open_ended = BudgetRequest(gpu=((0, 80 * GIB),), disk_folder=tmp_path)
    assert live_budgets(open_ended, reading())[1].free_bytes == 40 * GIB - RAM_RESERVE_BYTES


def test_the_offload_folder_is_ours_unless_it_was_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VRAMBLE_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert parent_folder(BudgetRequest()) == tmp_path / "vramble" / "offload"
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert parent_folder(BudgetRequest()) == Path.home() / ".cache" / "vramble" / "offload"
    monkeypatch.setenv("VRAMBLE_HOME", str(tmp_path / "v"))
    assert parent_folder(BudgetRequest()) == tmp_path / "v" / "cache" / "offload"
    assert parent_folder(BudgetRequest(disk_folder=Path("/d"))) == Path("/d")


def test_a_folder_is_placed_on_this_machine(tmp_path: Path) -> None:
    placement = place(checkpoint(tmp_path / "m"), budgets=BudgetRequest(disk_folder=tmp_path / "not" / "yet"))
    assert placement.fits is not Fits.NO
    assert placement.context_window == 128


def test_check_34_a_plan_beyond_the_limits_is_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    request = BudgetRequest(ram_bytes=1 << 20, disk_folder=tmp_path)
    with pytest.raises(DoesNotFit, match=r"RAM.* needs .* and has 1 MiB") as caught:
        place(checkpoint(tmp_path / "m"), budgets=request)
    assert "--ram" in caught.value.hint


def test_a_folder_that_is_no_model_is_not_placed(tmp_path: Path) -> None:
    with pytest.raises(NotACheckpoint):
        place(tmp_path)


@pytest.mark.parametrize(
    ("size", "text"),
    [(3 * GIB, "3.0 GiB"), (GIB // 2, "0.5 GiB"), (7 << 20, "7 MiB"), (9, "under 1 MiB"), (0, "0 MiB")],
)
def test_sizes_in_sentences(size: int, text: str) -> None:
    assert gib(size) == text
