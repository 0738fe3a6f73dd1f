from __future__ import annotations

from functools import partial
from pathlib import Path

from msgspec.structs import replace

from engine.values import BudgetRequest, DeviceLedger, Fits, ModelRef, Placement, Quantization
from tests.tui.readings import GIB, ram, reading
from tests.tui.screens.entries import PLACEMENT
from tests.tui.verbs import folders
from tui.model_entries import ModelEntry
from tui.outlooks import Outlook, Outlooks, Wishes, fit_word, outlook_of
from tui.planner import Machine

ALL_THAT_IS_FREE = Wishes(BudgetRequest())


def judge(used: list[float] | None = None, wishes: Wishes = ALL_THAT_IS_FREE) -> Outlooks:
    figures = used if used is not None else [18.2]
    return Outlooks(lambda: Machine(reading=reading(memory=ram(used=figures[0]))), wishes)


def model(folder: Path, modified_at: float = 1.0) -> ModelEntry:
    return ModelEntry(model=ModelRef(name="toy", folder=folder), modified_at=modified_at)


def test_a_sound_model_is_planned_from_its_headers(tmp_path: Path) -> None:
    outlooks = judge()
    outlooks.refresh()
    outlook = outlooks.look(model(folders.sound(tmp_path / "toy")))
    assert outlook.fits is Fits.GPU_RAM
    assert outlook.decode_tps > 0
    assert outlook.told.startswith("with 4,096 tokens of context: ")
    assert fit_word(outlook) == ("RAM", "success")


def test_what_is_remembered_holds_until_the_files_or_the_free_memory_change(tmp_path: Path) -> None:
    used = [18.2]
    outlooks = judge(used)
    outlooks.refresh()
    toy = model(folders.sound(tmp_path / "toy"))
    assert outlooks.known(toy) is None
    outlook = outlooks.look(toy)
    assert outlooks.known(toy) == outlook
    assert outlooks.known(model(toy.model.folder, modified_at=2.0)) is None
    used[0] = 18.3
    outlooks.refresh()
    assert outlooks.known(toy) == outlook
    used[0] = 60.0
    outlooks.refresh()
    assert outlooks.known(toy) is None


def test_what_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    outlooks = judge()
    outlooks.refresh()
    outlook = outlooks.look(model(folders.truncated(tmp_path / "toy")))
    assert outlook.fits is None
    assert outlook.problem
    assert fit_word(outlook) == ("no", "error")


def test_caps_and_quantization_are_the_persons(tmp_path: Path) -> None:
    wishes = Wishes(BudgetRequest(ram_bytes=1 << 20, disk_bytes=0), 512, Quantization.NF4)
    outlooks = judge(wishes=wishes)
    outlooks.refresh()
    outlook = outlooks.look(model(folders.sound(tmp_path / "toy")))
    assert outlook == Outlook(Fits.NO, told="does not fit with 512 tokens of context")


def test_what_the_engine_holds_counts_as_free(tmp_path: Path) -> None:
    toy = model(folders.sound(tmp_path / "toy"))
    full = reading(memory=replace(ram(used=122.9), engine_anonymous_bytes=0))
    machines = [
        Machine(reading=full),
        Machine(reading=full, own=(DeviceLedger(device="ram", kv_bytes=9 * GIB),)),
    ]
    fits = []
    for machine in machines:
        outlooks = Outlooks(partial(lambda now: now, machine), ALL_THAT_IS_FREE)
        outlooks.refresh()
        fits.append(outlooks.look(toy).fits)
    assert fits == [Fits.NO, Fits.GPU_RAM]


def test_a_word_for_every_way_to_fit() -> None:
    words = [fit_word(Outlook(fits, has_gpu=True))[0] for fits in Fits]
    assert words == ["GPU", "GPU+RAM", "disk", "no"]
    assert fit_word(Outlook(Fits.GPU_RAM))[0] == "RAM"
    assert fit_word(None) == ("…", "muted")
    assert fit_word(None, "It is a pickle.")[0] == "no"


def test_a_plan_in_a_few_words() -> None:
    assert (
        outlook_of(PLACEMENT).told == "with 32,768 tokens of context: 6.4 tok/s, load 9.4 s (typical figures)"
    )
    assert outlook_of(Placement(context_window=512, fits=Fits.NO)).fits is Fits.NO
