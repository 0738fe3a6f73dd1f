"""Every figure of a plan is explained in a sentence."""

from __future__ import annotations

import msgspec
import pytest

from engine.heap import GROWTH_BYTES
from engine.plan.explain import against, capped, gib, shortage, where_layers_go
from engine.plan.need import KEPT_STATES, Need
from engine.plan.runtime import CLASS_BYTES, CUDA_RAM_BYTES, GPU_RUNTIME_BYTES, RAM_RUNTIME_BYTES
from engine.values import Budget, DevicePlan, LayerPlacement, Quantization, Strategy, Tier
from tests.engine.plan.making import GIB, MIB, budgets, model, placed, usual_limits

MAIN_LIST = frozenset(f"model.layers.{at}" for at in range(4))


def layers(*places: str, **outside: str) -> list[LayerPlacement]:
    names = {f"model.layers.{at}": place for at, place in enumerate(places)} | outside
    tiers = {"ram": Tier.STREAM, "disk": Tier.DISK, "cpu": Tier.CPU}
    return [
        LayerPlacement(name=name, bytes=1, tier=tiers.get(place, Tier.GPU), device=place)
        for name, place in names.items()
    ]


@pytest.mark.parametrize(
    ("places", "outside", "sentences"),
    [
        (
            ("gpu:0", "gpu:0", "ram", "ram"),
            {"lm_head": "gpu:0"},
            ["2 of 4 layers go to the CPU's RAM, to be copied to the GPU for every token."],
        ),
        (
            ("gpu:0", "ram", "disk", "disk"),
            {"lm_head": "disk"},
            [
                "1 of 4 layers go to the CPU's RAM, to be copied to the GPU for every token.",
                "2 of 4 layers stay on the disk, to be read for every token, with lm_head.",
            ],
        ),
        (
            ("gpu:0",) * 4,
            {"lm_head": "ram"},
            ["lm_head goes to the CPU's RAM, to be copied to the GPU for every token."],
        ),
        (
            ("gpu:0", "gpu:1", "gpu:1", "gpu:1"),
            {"lm_head": "gpu:1"},
            ["All 4 layers lie on GPUs, none in the CPU's RAM: 1 on gpu:0, 3 on gpu:1."],
        ),
        (("cpu",) * 4, {"lm_head": "cpu"}, ["All 4 layers lie in RAM, where the CPU computes them."]),
        (
            ("cpu", "cpu", "disk", "disk"),
            {},
            ["2 of 4 layers stay on the disk, to be read for every token."],
        ),
    ],
)
def test_it_is_said_how_many_layers_go_where(
    places: tuple[str, ...], outside: dict[str, str], sentences: list[str]
) -> None:
    assert list(where_layers_go(layers(*places, **outside), MAIN_LIST)) == sentences


@pytest.mark.parametrize(
    ("need", "has", "said"),
    [
        (3 * GIB, GIB, "needs 3.0 GiB and has 1.0 GiB, 2.0 GiB too little"),
        (9, 5, "needs 9 bytes and has 5, 4 too few"),
        (3 * GIB + 7, 3 * GIB, "needs 3,221,225,479 bytes and has 3,221,225,472, 7 too few"),
        (5 * MIB, 0, "needs 5 MiB and has 0 MiB, 5 MiB too little"),
    ],
)
def test_a_shortage_shows_by_how_much(need: int, has: int, said: str) -> None:
    assert against(need, has) == said


def test_only_devices_that_are_short_are_named() -> None:
    plans = (
        DevicePlan(device="gpu:0", budget_bytes=GIB, weight_bytes=2 * GIB, label="GPU 0"),
        DevicePlan(device="ram", budget_bytes=GIB),
    )
    said = shortage(plans, 4096)
    assert (
        said
        == "With a context window of 4,096 tokens, GPU 0 needs 2.0 GiB and has 1.0 GiB, 1.0 GiB too little."
    )


def test_a_plan_says_what_each_figure_is() -> None:
    placement = placed(model(), budgets((4 * GIB,)), 1024)
    text = "\n".join(placement.reasons)
    ram_bytes = RAM_RUNTIME_BYTES + CUDA_RAM_BYTES
    assert (
        f"The weights take {gib(901 * MIB)}: all parameters as 16-bit numbers, by the files' headers" in text
    )
    assert "The KV cache takes under 1 MiB at 1,024 tokens: 0.2 KiB for each token." in text
    assert "Activations take" in text
    assert "the peak of 512 prompt tokens computed at once" in text
    assert f"The runtime takes {gib(GPU_RUNTIME_BYTES)} on gpu:0, {gib(ram_bytes)} on RAM" in text
    assert "never measured here" in text
    assert "typical figures: this machine was not measured" in text


def test_measured_limits_are_said_to_be_measured_and_give_the_runtime() -> None:
    given = budgets((4 * GIB,))
    usual = usual_limits(given)
    gpu = msgspec.structs.replace(usual.gpus[0], is_measured=True, context_bytes=333 * MIB)
    limits = msgspec.structs.replace(usual, measured_at=1.0, ram_runtime_bytes=444 * MIB, gpus=(gpu,))
    placement = placed(model(), given, 1024, limits=limits)
    text = "\n".join(placement.reasons)
    assert "limits that were measured on this machine" in text
    assert "(measured here)" in text
    card, ram, _ = placement.devices
    assert card.runtime_bytes == 333 * MIB
    assert ram.runtime_bytes == 444 * MIB + CLASS_BYTES + GROWTH_BYTES + CUDA_RAM_BYTES


def test_a_dry_run_is_named_as_the_source() -> None:
    exact = msgspec.structs.replace(model(), parameters=1234567)
    said = placed(exact, budgets(), 1024).reasons
    assert any("1,234,567 parameters" in reason for reason in said)


def test_what_stays_unquantized_beside_the_gpu_is_said() -> None:
    packed = model(packed_bytes=30 * MIB)
    given = budgets((GPU_RUNTIME_BYTES + 250 * MIB,))
    said = placed(packed, given, 1024, strategy=Strategy.SEQUENTIAL).reasons
    assert any(reason.startswith("nf4 leaves the ") for reason in said)
    assert not any("nf4 leaves" in reason for reason in placed(packed, budgets(), 1024).reasons)


def test_a_cap_beyond_what_is_free_is_said() -> None:
    allowed = Budget(device="gpu:0", free_bytes=GIB, given=True, asked_bytes=3 * GIB, label="GPU 0 T4")
    (sentence,) = capped([allowed, *budgets()])
    assert sentence.startswith("GPU 0 T4 may give 1.0 GiB, not the 3.0 GiB that you allow")
    assert capped([msgspec.structs.replace(allowed, asked_bytes=GIB)]) == ()


def test_copies_of_layers_that_forget_count_as_cache() -> None:
    plain, sliding = model(), model(sliding_window=256)
    assert sliding.kv_bytes(4096) == plain.kv_bytes(256)
    assert Need(sliding, 4096).kv_bytes == (1 + KEPT_STATES) * plain.kv_bytes(256)
    said = placed(sliding, budgets(), 4096).reasons
    assert any("of copies to go back to" in reason for reason in said)
    assert not any("copies to go back to" in reason for reason in placed(plain, budgets(), 4096).reasons)


def test_a_state_of_constant_size_is_kept_in_copies_too() -> None:
    recurrent = model(layer_types=["linear_attention", "full_attention"] * 4)
    state = recurrent.kv_bytes(0)
    assert state > 0
    need = Need(recurrent, 1000)
    assert need.kv_bytes == recurrent.kv_bytes(1000) + KEPT_STATES * state
    assert need.kv["model.layers.0"] == (1 + KEPT_STATES) * recurrent.kv_bytes(0) // 4


def test_quantizing_is_named_with_the_weights() -> None:
    said = placed(model(packed_bytes=30 * MIB), budgets(), 1024).reasons
    assert any("as nf4" in reason for reason in said)
    assert placed(model(), budgets(), 1024).quantization is Quantization.NONE
