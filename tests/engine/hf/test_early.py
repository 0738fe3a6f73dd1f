"""Reading that begins before torch is there: for the load that came, within its plan, and for no other."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from engine.checkpoint import inspect_folder
from engine.commands import LoadModel
from engine.errors import EngineFault
from engine.hf import early
from engine.hf.backend import HFBackend
from engine.hf.early import EarlyReader, Reading, begun
from engine.hf.tiers.residency import PageCache
from engine.hf.tiers.slabs import Slabs
from engine.readings import RamReading
from engine.values import LayerPlacement, ModelRef, Placement, Quantization, Tier
from tests import tiny_models
from tests.engine.hf.talk import in_ram, never

GIB = 1 << 30


@pytest.fixture(autouse=True)
def cold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PageCache, "holds", lambda *_: False)


def command(turn_id: int = 1, folder: Path | None = None) -> LoadModel:
    folder = folder or tiny_models.checkpoint("llama")
    return LoadModel(turn_id=turn_id, model=ModelRef(name="tiny", folder=folder), placement=in_ram())


def test_the_engine_process_reads_without_torch() -> None:
    said = "import engine.child, engine.hf.early, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", said], check=False).returncode == 0


def test_a_load_takes_what_was_read_for_it_and_reads_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    begun_count = 0
    begin = Slabs.__init__

    def counting(self: Slabs, *args: object, **options: object) -> None:
        nonlocal begun_count
        begun_count += 1
        begin(self, *args, **options)  # type: ignore[arg-type]  # whatever it is given

    monkeypatch.setattr(Slabs, "__init__", counting)
    reader = EarlyReader()
    reader.see(command())
    backend = HFBackend(reader)
    backend.load(command(), lambda _: None, never)
    assert begun_count == 1
    assert backend._loaded is not None
    assert backend._loaded.weights.mapped_bytes == 0
    backend.unload()


def test_a_plan_is_made_early_where_the_load_comes_without_one() -> None:
    reader = EarlyReader()
    asked = msgspec.structs.replace(command(), placement=None, context_window=64)
    reader.see(asked)
    reading = reader.take(asked)
    assert reading is not None
    reading.close()


class Counted:
    """Begins readings, and keeps them."""

    def __init__(self) -> None:
        self.readings: list[Reading] = []

    def __call__(self, asked: LoadModel) -> Reading:
        verdict = inspect_folder(asked.model.folder)
        self.readings.append(Reading(Slabs(verdict.tensors, is_scarce=False)))
        return self.readings[-1]


def is_closed(reading: Reading) -> bool:
    return not reading.slabs._slabs


def test_only_the_first_load_is_read_early_and_only_for_itself() -> None:
    begin = Counted()
    reader = EarlyReader(begin)
    reader.see(command(1))
    reader.see(command(2))
    assert reader.take(command(2)) is None
    (reading,) = begin.readings
    assert is_closed(reading)
    reader.see(command(3))
    assert reader.take(command(3)) is None
    assert len(begin.readings) == 1


def test_a_cancel_before_the_load_gives_its_memory_back() -> None:
    begin = Counted()
    reader = EarlyReader(begin)
    reader.see(command(4))
    reader.cancel(3)
    reader.cancel(4)
    give_up_at = time.monotonic() + 10
    while not (begin.readings and is_closed(begin.readings[0])) and time.monotonic() < give_up_at:
        time.sleep(0.01)
    assert is_closed(begin.readings[0])


def test_what_goes_wrong_early_is_left_for_the_load_to_say(tmp_path: Path) -> None:
    def failing(_: LoadModel) -> Reading:
        raise EngineFault("The disk failed.", "See whether it is there.")

    for reader, asked in ((EarlyReader(failing), command()), (EarlyReader(), command(folder=tmp_path))):
        reader.see(asked)
        assert reader.take(asked) is None


def _placed(tier: Tier, size: int) -> Placement:
    layer = LayerPlacement(name="model", bytes=size, tier=tier, device="ram")
    return Placement(context_window=64, layers=(layer,))


def test_nothing_is_begun_that_the_plan_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = inspect_folder(tiny_models.checkpoint("llama"))
    enough = begun(verdict, _placed(Tier.CPU, verdict.weight_bytes))
    assert enough is not None
    enough.close()
    assert begun(verdict, _placed(Tier.CPU, verdict.weight_bytes // 2)) is None
    assert begun(verdict, _placed(Tier.DISK, verdict.weight_bytes)) is None
    assert begun(verdict, _placed(Tier.GPU, verdict.weight_bytes)) is None
    unpacked = Placement(context_window=64, quantization=Quantization.NF4)
    assert begun(verdict, unpacked) is None
    scarce = RamReading(total_bytes=GIB, ram_used=GIB - 1)
    monkeypatch.setattr(early, "read_ram", lambda _: scarce)
    assert begun(verdict, in_ram()) is None
