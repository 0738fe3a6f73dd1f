"""Every case of the engine's bench can be asked for alone, and costs nothing where it is not."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from bench.engine import PARTS, Part, chosen
from bench.rows import Asked


@pytest.mark.parametrize("part", PARTS, ids=lambda part: f"{part.script}-{part.cases[0]}")
def test_a_part_names_what_its_script_measures_and_no_model_is_made_for_the_names(
    part: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if part.without_kernels:
        monkeypatch.setenv("VRAMBLE_KERNELS", "off")
    script = importlib.import_module(f"bench.{part.script}")
    cases = script.cases(Asked(tmp_path, quick=False, minutes=1.0, llama_cpp=None))
    assert tuple(case.name for case in cases) == part.cases
    assert not list(tmp_path.iterdir())


def test_one_case_runs_one_script() -> None:
    assert [part.cases for part in chosen(("P5:experts",))] == [PARTS[0].cases]
    assert [part.script for part in chosen(("P5", "P8:3b-nf4"))] == ["native", "native", "load"]
    assert chosen(()) == list(PARTS)
