from __future__ import annotations

import pytest

from engine import child
from engine.visible import visible_gpus
from tests.fake_nvml import uuid_of

EIGHT = [uuid_of(index) for index in range(8)]
HIDES = "CUDA_VISIBLE_DEVICES hides GPUs"


@pytest.mark.parametrize(
    ("value", "indices", "note"),
    [
        (None, tuple(range(8)), ""),
        ("", (), HIDES),
        ("-1", (), HIDES),
        ("2,0", (2, 0), ""),
        (" 7 , 1 ", (7, 1), ""),
        ("0,-1,2", (0,), HIDES),
        ("3,8,1", (3,), HIDES),
        ("99999999999999999999", (), HIDES),
        ("NoDevFiles", (), HIDES),
        ("junk", (), HIDES),
        ("1,junk,2", (1,), HIDES),
        ("1,1", (), "CUDA_VISIBLE_DEVICES names a GPU twice"),
        (f"{EIGHT[5]},{EIGHT[2]}", (5, 2), ""),
        (EIGHT[5].upper(), (5,), ""),
        (EIGHT[4][:6], (4,), ""),
        ("GPU-a", (), HIDES),  # the 1st and the 7th begin so
        ("GPU-f", (5,), ""),
        ("GPU-", (), HIDES),
        (f"0,{EIGHT[0]}", (), "CUDA_VISIBLE_DEVICES names a GPU twice"),
        ("MIG-GPU-a0000000/1/0", (), "n/a (a MIG slice has no reading of its own)"),
        ("2,MIG-1234", (2,), "n/a (a MIG slice has no reading of its own)"),
        ("²", (), HIDES),
    ],
)
def test_check_36_the_gpus_shown_are_those_that_cuda_uses(
    value: str | None, indices: tuple[int, ...], note: str
) -> None:
    environment = {} if value is None else {"CUDA_VISIBLE_DEVICES": value}
    assert visible_gpus(EIGHT, environment) == (indices, note)


def test_without_gpus_none_is_visible() -> None:
    assert visible_gpus([], {}).indices == ()


def test_check_36_the_engine_process_numbers_gpus_as_nvml_does() -> None:
    assert child.environment(None)["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
