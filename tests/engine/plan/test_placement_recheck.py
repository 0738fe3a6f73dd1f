"""A plan that was made earlier is held against what is free now."""

from __future__ import annotations

import msgspec
import pytest

from engine.errors import DoesNotFit
from engine.plan import require_room
from engine.plan.budgets import GPU_RESERVE_BYTES, RAM_RESERVE_BYTES
from engine.values import Budget
from tests.engine.plan.making import GIB, MIB, budgets, model, placed

MADE = placed(model(), budgets((4 * GIB,)), 1024)
SPILLED = placed(model(rewritten_bytes=60 * MIB), budgets(ram=900 * MIB), 1024)


def test_what_still_fits_may_be_loaded_even_into_the_reserves() -> None:
    card, ram, _ = MADE.devices
    tight = budgets((card.predicted_bytes - GPU_RESERVE_BYTES,), ram.predicted_bytes - RAM_RESERVE_BYTES)
    require_room(MADE, model(), tight)
    require_room(SPILLED, model(rewritten_bytes=60 * MIB), budgets(ram=900 * MIB))


def test_a_gpu_that_has_filled_since_is_named() -> None:
    with pytest.raises(DoesNotFit, match=r"gpu:0 needs .* too little, as of now") as caught:
        require_room(MADE, model(), budgets((GIB,)))
    assert "plan again" in caught.value.hint


def test_a_gpu_is_known_by_its_uuid() -> None:
    swapped = (Budget(device="gpu:0", free_bytes=4 * GIB, uuid="GPU-9"), *budgets())
    with pytest.raises(DoesNotFit, match="gpu:0"):
        require_room(MADE, model(), swapped)
    moved = msgspec.structs.replace(swapped[0], device="gpu:3", uuid="GPU-0")
    require_room(MADE, model(), (moved, *budgets()))


def test_ram_that_has_filled_since_is_named() -> None:
    with pytest.raises(DoesNotFit, match="RAM needs"):
        require_room(SPILLED, model(), budgets(ram=100 * MIB))


def test_a_disk_without_room_for_what_must_be_rewritten_is_named() -> None:
    with pytest.raises(DoesNotFit, match="the disk needs"):
        require_room(SPILLED, model(rewritten_bytes=60 * MIB), budgets(ram=900 * MIB, disk=10 * MIB))
    require_room(SPILLED, model(), budgets(ram=900 * MIB, disk=0))
