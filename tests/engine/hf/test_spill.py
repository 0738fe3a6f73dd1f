"""What the plan puts on disk, loaded as planned: nothing of the reply changes, and nothing stays behind."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import torch

from engine.checkpoint import inspect_folder
from engine.errors import DoesNotFit
from engine.plan import footprint_of, place
from engine.plan.in_place import SLOTS
from engine.values import BudgetRequest, FinishReason, Fits, Placement, Quantization, Tier
from tests import tiny_models
from tests.engine.hf.talk import Talk, in_ram

FAMILIES = ("llama", "qwen3", "qwen3_moe", "gptj", "gpt2", "bloom", "gemma2")
WIDE: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 256, "num_key_value_heads": 4, "head_dim": 16}
QUESTION = "Why is prefill faster than decode?"


class Answer(NamedTuple):
    text: str
    token_ids: list[int]


def answered(talk: Talk) -> Answer:
    text = talk.ask(QUESTION).text
    answer = Answer(text, talk.cached)
    talk.backend.unload()
    return answer


def ram_for_some_layers(
    folder: Path, budgets: BudgetRequest, quantization: Quantization = Quantization.NONE
) -> BudgetRequest:
    """Budgets that leave RAM for what has to lie there, for what is read ahead, and for some weights."""
    placed = place(folder, budgets=budgets, quantization=quantization)
    (ram,) = (device for device in placed.devices if device.device == "ram")
    largest = max(layer.bytes for layer in place(folder, budgets=budgets).layers)
    some = ram.predicted_bytes - ram.weight_bytes // 2 + SLOTS * largest
    return BudgetRequest(ram_bytes=min(some, ram.predicted_bytes - 1), disk_folder=budgets.disk_folder)


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


@pytest.mark.parametrize("kind", [Quantization.NF4, Quantization.INT8])
def test_what_spills_without_a_gpu_is_not_quantized_and_the_plan_says_so(
    tmp_path: Path, kind: Quantization
) -> None:
    folder = tiny_models.make("llama", tmp_path, dtype=torch.bfloat16, **WIDE)
    budgets = ram_for_some_layers(folder, BudgetRequest(disk_folder=tmp_path / "offload"), kind)
    talk = Talk(folder, budgets=budgets, quantization=kind)
    placement = talk.loaded.placement
    assert Tier.DISK in tiers(placement)
    assert placement.quantization is Quantization.NONE
    assert any(f"{kind} is not applied" in reason for reason in placement.reasons)
    predicted = {device.device: device.weight_bytes for device in placement.devices}
    held = talk.inner.weights.by_device
    assert held["disk"] == predicted["disk"]
    assert held.get("ram", 0) <= 1.05 * predicted["ram"] + 4096
    assert talk.ask(QUESTION).finished.finish_reason is not FinishReason.FAILED
    talk.backend.unload()


def asked_on_the_command_line(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tui", "ask", "-m", str(folder), *flags]
    sampling = ["--temperature", "0", "--max-new-tokens", "8", "--json", QUESTION]
    return subprocess.run(
        [*command, *sampling],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_the_command_line_answers_from_the_disk_what_it_answers_from_ram(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VRAMBLE_HOME", str(tmp_path / "home"))
    folder = tiny_models.checkpoint("qwen3_moe")
    offload = tmp_path / "offload"
    budgets = ram_for_some_layers(folder, BudgetRequest(disk_folder=offload))
    spilled = asked_on_the_command_line(folder, "--ram", str(budgets.ram_bytes), "--disk", str(offload))
    document = json.loads(spilled.stdout)
    assert document["completion_tokens"] == 8, spilled.stderr
    assert document["text"] == json.loads(asked_on_the_command_line(folder).stdout)["text"]
    assert offload.stat().st_mode & 0o777 == 0o700
    assert not any(offload.iterdir())


def test_check_39_a_plan_is_refused_where_the_disk_has_less_than_a_twentieth_more_than_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_models.checkpoint("qwen3_moe")
    budgets = ram_for_some_layers(folder, BudgetRequest(disk_folder=tmp_path))
    rewritten = {
        module.name: module.rewritten_bytes for module in footprint_of(inspect_folder(folder)).modules
    }
    need = 0
    while not need:  # less RAM, until experts that are stacked on load lie on disk
        budgets = msgspec.structs.replace(budgets, ram_bytes=(budgets.ram_bytes or 0) - (1 << 18))
        layers = place(folder, budgets=budgets).layers
        need = sum(rewritten[layer.name] for layer in layers if layer.tier is Tier.DISK)

    def disk_with(free: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 0, free))

    disk_with(int(1.06 * need))
    assert place(folder, budgets=budgets).fits is Fits.DISK
    disk_with(int(1.04 * need))
    with pytest.raises(DoesNotFit, match="disk"):
        Talk(folder, budgets=budgets)
