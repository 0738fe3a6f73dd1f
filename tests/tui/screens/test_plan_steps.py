from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.commands import PlanLoad
from engine.values import Alternative, BudgetRequest, ModelRef, Quantization, Strategy
from tests.tui.readings import GIB
from tui.screens.plan_steps import (
    cap_of,
    cap_step,
    context_steps,
    next_strategy,
    stepped_cap,
    stepped_context,
    with_alternative,
    with_cap,
)

WISH = PlanLoad(model=ModelRef(name="x", folder=Path("/x")))


@pytest.mark.parametrize(
    ("longest", "steps"),
    [(4096, [512, 1024, 2048, 4096]), (40960, [512 << n for n in range(7)] + [40960]), (300, [300])],
)
def test_windows_double_up_to_the_models_own(longest: int, steps: list[int]) -> None:
    assert context_steps(longest) == steps


def test_a_window_between_two_steps_goes_to_the_next_one() -> None:
    assert stepped_context(3000, 40960, 1) == 4096
    assert stepped_context(3000, 40960, -1) == 2048
    assert stepped_context(512, 40960, -1) == 512
    assert stepped_context(40960, 40960, 1) == 40960


@given(room=st.integers(1, 1 << 46))
def test_caps_step_down_to_nothing_and_up_to_none_in_some_dozens_of_round_steps(room: int) -> None:
    cap: int | None = None
    down = 0
    while cap != 0:
        cap = stepped_cap(cap, room, -1)
        assert cap is not None
        assert cap % cap_step(room) == 0
        down += 1
    up = 0
    while cap is not None:
        cap = stepped_cap(cap, room, 1)
        up += 1
    assert down == up
    assert down <= 33


def test_each_device_has_a_cap_of_its_own() -> None:
    budgets = BudgetRequest()
    for device, cap in (("gpu:1", 5), ("ram", 7), ("disk", 0), ("gpu:0", GIB)):
        budgets = with_cap(budgets, device, cap)
        assert cap_of(budgets, device) == cap
    assert budgets == BudgetRequest(gpu=((0, GIB), (1, 5)), ram_bytes=7, disk_bytes=0)
    for device in ("gpu:1", "ram", "disk", "gpu:0"):
        budgets = with_cap(budgets, device, None)
    assert budgets == BudgetRequest()


def test_a_map_of_the_persons_own_is_left_behind_by_a_strategy() -> None:
    mapped = PlanLoad(model=WISH.model, strategy=Strategy.CUSTOM, device_map=(("model", "gpu:0"),))
    assert next_strategy(mapped) == WISH


def test_another_plan_takes_a_cap_off_where_that_stands_in_its_way() -> None:
    capped = PlanLoad(model=WISH.model, budgets=BudgetRequest(ram_bytes=1, disk_bytes=2))
    more_ram = Alternative(change="More RAM.", context_window=8, ram_bytes=5)
    assert with_alternative(capped, more_ram).budgets == BudgetRequest(disk_bytes=2)
    more_disk = Alternative(change="More disk.", context_window=8, disk_bytes=5)
    assert with_alternative(capped, more_disk).budgets == BudgetRequest(ram_bytes=1)
    smaller = Alternative(change="nf4.", context_window=8, quantization=Quantization.NF4)
    assert with_alternative(capped, smaller).quantization is Quantization.NF4
    assert with_alternative(capped, smaller).budgets == capped.budgets
