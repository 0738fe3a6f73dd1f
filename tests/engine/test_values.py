from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine import values
from engine.errors import InvalidValue
from engine.values import Budget, DevicePlan, LayerPlacement, ModelRef, Placement, SamplingParams, Tier


@pytest.mark.parametrize(
    "field",
    [
        {"temperature": -0.1},
        {"temperature": 5.1},
        {"temperature": float("nan")},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_k": -1},
        {"min_p": 1.0},
        {"repetition_penalty": 0.0},
        {"max_new_tokens": 0},
        {"seed": -1},
        {"seed": 2**63},
    ],
)
def test_a_sampling_parameter_out_of_its_range_is_refused_by_name(field: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue, match=next(iter(field))) as refusal:
        SamplingParams(**field)
    assert "between" in refusal.value.hint


def test_the_ends_of_the_ranges_are_within_them() -> None:
    least = SamplingParams(temperature=0.0, top_p=1.0, top_k=0, min_p=0.0, max_new_tokens=1, seed=0)
    most = SamplingParams(temperature=5.0, min_p=0.999, repetition_penalty=10.0, seed=2**63 - 1)
    assert (least.temperature, most.temperature) == (0.0, 5.0)
    assert (least.seed, most.seed) == (0, 2**63 - 1)


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(InvalidValue, match="stop string"):
        SamplingParams(stop=("end", ""))


def test_a_negative_budget_is_refused() -> None:
    with pytest.raises(InvalidValue, match="gpu:0"):
        Budget(device="gpu:0", free_bytes=-1)


def test_what_lies_on_a_device_is_the_sum_of_its_parts() -> None:
    plan = DevicePlan(
        device="ram", budget_bytes=9, weight_bytes=1, kv_bytes=20, activation_bytes=300, runtime_bytes=4000
    )
    assert plan.predicted_bytes == 4321


def test_tiers_are_counted_in_the_order_of_their_first_use() -> None:
    tiers = (Tier.STREAM, Tier.GPU, Tier.STREAM)
    layers = tuple(LayerPlacement(name="layer", bytes=1, tier=tier, device="ram") for tier in tiers)
    placement = Placement(context_window=8, layers=layers)
    assert list(placement.tier_counts().items()) == [(Tier.STREAM, 2), (Tier.GPU, 1)]


def test_values_are_frozen_and_comparable() -> None:
    model = ModelRef(name="a", folder=Path("/a"))
    with pytest.raises(AttributeError):
        model.name = "b"  # type: ignore[misc] # that it is refused is the behaviour
    assert model == ModelRef(name="a", folder=Path("/a"))


@pytest.mark.parametrize("name", [name for name, kind in vars(values).items() if isinstance(kind, type)])
def test_every_field_of_a_value_is_described(name: str) -> None:
    kind = getattr(values, name)
    for field in getattr(kind, "__struct_fields__", ()):
        assert f"    {field}: " in (kind.__doc__ or "")
