from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import DoesNotFit, NotACheckpoint
from engine.memory import GpuReading, MemoryReading, RamReading
from engine.offload import parent_folder
from engine.plan import live_budgets, place
from engine.plan.budgets import RAM_RESERVE_BYTES
from engine.plan.explain import gib
from engine.values import BudgetRequest, Fits
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
