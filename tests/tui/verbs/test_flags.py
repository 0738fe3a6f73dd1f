"""Budgets, sizes and sampling as they are written on the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from engine import errors, values
from tui.verbs import flags
from tui.verbs.sampling import add_sampling_flags, sampling_of
from tui.verbs.usage import Parser, WrongUsage

GIB = 2**30


def parsed(*words: str) -> argparse.Namespace:
    parser = Parser(prog="vramble", allow_abbrev=False)
    flags.add_load_flags(parser)
    add_sampling_flags(parser)
    return parser.parse_args(words)


def test_gpus_without_an_id_count_from_zero() -> None:
    budgets = flags.budgets_of(parsed("--gpu", "20GiB", "--gpu", "8GiB"))
    assert budgets.gpu == ((0, 20 * GIB), (1, 8 * GIB))


def test_gpus_with_an_id_keep_it() -> None:
    assert flags.budgets_of(parsed("--gpu", "3=20GiB")).gpu == ((3, 20 * GIB),)


@pytest.mark.parametrize(
    "words",
    [
        ["--gpu", "lots"],
        ["--gpu", "x=1GiB"],
        ["--gpu", "0=1GiB", "--gpu", "0=2GiB"],
        ["--gpu", "0=-1"],
        ["--ram", "many"],
        ["--disk", "1GiB", "--disk", "2GiB"],
        ["--disk", "/a", "--disk", "/b"],
    ],
)
def test_a_budget_that_cannot_be_meant_is_wrong_usage(words: list[str]) -> None:
    with pytest.raises(WrongUsage) as raised:
        flags.budgets_of(parsed(*words))
    assert words[0] in raised.value.message
    assert raised.value.hint


@pytest.mark.parametrize(
    "words", [["--context", "0"], ["--context", "-5"], ["--context", "x"], ["--quant", "int3"]]
)
def test_a_context_or_quantization_out_of_range_is_wrong_usage(words: list[str]) -> None:
    with pytest.raises(WrongUsage, match=words[0]):
        parsed(*words)


def test_disk_takes_a_folder_and_a_size() -> None:
    budgets = flags.budgets_of(parsed("--disk", "/scratch/x", "--disk", "100GiB"))
    assert budgets.disk_folder == Path("/scratch/x")
    assert budgets.disk_bytes == 100 * GIB


def test_a_folder_named_like_a_size_is_given_as_a_path() -> None:
    assert flags.budgets_of(parsed("--disk", "./20GiB")).disk_folder == Path.cwd() / "20GiB"


def test_what_is_not_given_holds_as_before() -> None:
    before = values.BudgetRequest(gpu=((0, GIB),), ram_bytes=GIB, disk_folder=Path("/d"), disk_bytes=5)
    assert flags.budgets_of(parsed(), before) == before
    assert flags.budgets_of(parsed("--ram", "2GiB"), before).ram_bytes == 2 * GIB


def test_sampling_flags_name_every_field_of_sampling_params() -> None:
    every = vars(parsed())
    assert all(field in every for field in values.SamplingParams.__struct_fields__)


def test_sampling_flags_hold_over_the_settings() -> None:
    before = values.SamplingParams(temperature=0.3, seed=1)
    sampling = sampling_of(parsed("--temperature", "0", "--stop", "END", "--stop", "\n\n"), before)
    assert sampling == values.SamplingParams(temperature=0.0, seed=1, stop=("END", "\n\n"))


def test_sampling_out_of_range_is_named() -> None:
    with pytest.raises(errors.InvalidValue, match="top_p is 2"):
        sampling_of(parsed("--top-p", "2"), values.SamplingParams())
