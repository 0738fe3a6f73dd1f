"""What the plan puts on disk, loaded as planned: nothing of the reply changes, and nothing stays behind."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from engine.plan import place
from engine.values import BudgetRequest, Fits, Placement, Tier
from tests import tiny_models
from tests.engine.hf.talk import Talk, in_ram

FAMILIES = ("llama", "qwen3", "qwen3_moe", "gptj", "gpt2", "bloom", "gemma2")
QUESTION = "Why is prefill faster than decode?"


class Answer(NamedTuple):
    text: str
    token_ids: list[int]


def answered(talk: Talk) -> Answer:
    text = talk.ask(QUESTION).text
    answer = Answer(text, talk.cached)
    talk.backend.unload()
    return answer


def ram_for_some_layers(folder: Path, budgets: BudgetRequest) -> BudgetRequest:
    """Budgets that leave RAM for what has to lie there, and for about half of the weights."""
    placed = place(folder, budgets=budgets)
    (ram,) = (device for device in placed.devices if device.device == "ram")
    largest = max(layer.bytes for layer in placed.layers)
    return BudgetRequest(
        ram_bytes=ram.predicted_bytes - ram.weight_bytes // 2 + largest, disk_folder=budgets.disk_folder
    )


def tiers(placement: Placement) -> set[Tier]:
    return {layer.tier for layer in placement.layers}


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_that_the_plan_spills_to_disk_change_no_token(family: str, tmp_path: Path) -> None:
    folder = tiny_models.checkpoint(family)
    budgets = ram_for_some_layers(folder, BudgetRequest(disk_folder=tmp_path / "offload"))
    expected = answered(Talk(folder, in_ram()))
    talk = Talk(folder, budgets=budgets)
    assert talk.loaded.placement.fits is Fits.DISK
    assert tiers(talk.loaded.placement) == {Tier.CPU, Tier.DISK}
    assert talk.inner.weights.by_device["disk"] > 0
    (offload,) = (tmp_path / "offload").iterdir()
    assert offload.stat().st_mode & 0o777 == 0o700
    assert answered(talk) == expected
    assert not any((tmp_path / "offload").iterdir())
