"""The disk tier with real models: every token as by generate, from the ring and from the page cache."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from engine.hf.tiers.direct import Extent
from engine.hf.tiers.disk import DiskTier
from engine.hf.tiers.residency import PageCache
from engine.values import FinishReason, SamplingParams, Tier
from tests import tiny_models
from tests.engine.hf.talk import After, Talk, on_disk

TOKENS = 64
GREEDY = SamplingParams(temperature=0.0, max_new_tokens=TOKENS)
LAYERS = {
    "llama": "model.layers",
    "qwen2": "model.layers",
    "qwen3": "model.layers",
    "gemma2": "model.layers",
    "gemma3_text": "model.layers",
    "stablelm": "model.layers",
    "phi3": "model.layers",
    "glm": "model.layers",
    "qwen3_next": "model.layers",
    "falcon_h1": "model.layers",
    "deepseek_v2": "model.layers",
    "mixtral": "model.layers",
    "gpt2": "transformer.h",
    "gptj": "transformer.h",
    "codegen": "transformer.h",
    "gpt_neox": "gpt_neox.layers",
    "bloom": "transformer.h",
}
STACKED = {"qwen3_next", "deepseek_v2", "mixtral"}
"""Their experts are stored one by one and computed as one tensor."""


@cache
def reference(family: str) -> Any:
    transformers_logging.disable_progress_bar()
    return AutoModelForCausalLM.from_pretrained(tiny_models.checkpoint(family), local_files_only=True)


def generated(family: str, prompt_ids: list[int]) -> list[int]:
    ids = torch.tensor([prompt_ids])
    reply = reference(family).generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=TOKENS, do_sample=False
    )
    return [int(token) for token in reply[0, len(prompt_ids) :]]


def tier_of(talk: Talk) -> DiskTier | None:
    assert talk.backend._placed is not None
    return talk.backend._placed.tier


def check_reply(family: str, talk: Talk) -> None:
    said = talk.ask("Why is prefill faster than decode?", GREEDY)
    prompt = talk.prompt_ids()
    expected = generated(family, prompt)
    assert talk.cached == prompt + expected[:-1]
    assert said.finished.usage.completion_tokens == len(expected)


@pytest.fixture
def cold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing counts as cached, so that everything goes through the ring."""
    monkeypatch.setattr(PageCache, "holds", lambda *_: False)


@pytest.fixture
def entered(monkeypatch: pytest.MonkeyPatch) -> list[list[Extent]]:
    """What the page cache was asked for."""
    asked: list[list[Extent]] = []
    holds = PageCache.holds

    def noted(self: PageCache, extents: Iterable[Extent]) -> bool:
        asked.append(list(extents))
        return holds(self, asked[-1])

    monkeypatch.setattr(PageCache, "holds", noted)
    return asked


@pytest.mark.usefixtures("cold")
@pytest.mark.parametrize("family", LAYERS)
@pytest.mark.parametrize(
    ("indices", "others"), [(range(4), Tier.DISK), (range(1, 3), Tier.CPU)], ids=["all", "mixed"]
)
def test_the_ring_changes_no_token(family: str, indices: range, others: Tier, tmp_path: Path) -> None:
    placement = on_disk(LAYERS[family], indices, tmp_path, others=others)
    talk = Talk(tiny_models.checkpoint(family), placement)
    by_hooks = any("accelerate" in note for note in talk.loaded.notes)
    assert by_hooks is (family in STACKED)
    assert (tier_of(talk) is None) is by_hooks
    check_reply(family, talk)
    assert talk.inner.weights.by_device["disk"] > 0
    talk.backend.unload()


@pytest.mark.usefixtures("cold")
@pytest.mark.parametrize("others", [Tier.CPU, Tier.DISK])
def test_files_that_hugging_faces_cache_keeps_under_checksums_are_read_in_place(
    others: Tier, tmp_path: Path
) -> None:
    blobs, snapshot = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b" / "snapshots" / "c0ffee"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(tiny_models.checkpoint("llama").iterdir())):
        blob = blobs / f"{number:064x}"
        shutil.copy(file, blob)
        (snapshot / file.name).symlink_to(Path("../..") / "blobs" / blob.name)
    talk = Talk(snapshot, on_disk("model.layers", range(1, 3), tmp_path / "offload", others=others))
    assert tier_of(talk) is not None
    check_reply("llama", talk)
    talk.backend.unload()


def test_what_the_page_cache_holds_is_used_where_it_is_mapped(
    entered: list[list[Extent]], tmp_path: Path
) -> None:
    folder = tiny_models.checkpoint("llama")
    (folder / "model.safetensors").read_bytes()
    talk = Talk(folder, on_disk("model.layers", range(4), tmp_path))
    tier = tier_of(talk)
    assert tier is not None
    check_reply("llama", talk)
    assert entered
    assert threads_named("disk") == 0
    talk.backend.unload()


def mapped_bytes(folder: Path) -> int:
    """What of a folder's weights lies in this process as pages of its files."""
    resident, is_ours = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(maxsplit=1)[0]:
            is_ours = line.endswith(".safetensors") and str(folder) in line
        elif is_ours and line.startswith("Rss:"):
            resident += int(line.split()[1]) * 1024
    return resident


@pytest.mark.parametrize("others", [Tier.CPU, Tier.DISK])
def test_what_is_used_where_it_is_mapped_leaves_the_process_behind_its_forward(
    others: Tier, tmp_path: Path
) -> None:
    folder = tiny_models.make("llama", tmp_path, hidden_size=512, intermediate_size=4096)
    (folder / "model.safetensors").read_bytes()
    talk = Talk(folder, on_disk("model.layers", range(4), tmp_path / "offload", others=others))
    assert talk.ask("Why?").finished.finish_reason is not FinishReason.FAILED
    assert 0.01 * talk.inner.weights.by_device["disk"] > mapped_bytes(folder)
    talk.backend.unload()


def threads_named(prefix: str) -> int:
    return sum(thread.name.startswith(prefix) for thread in threading.enumerate())


def open_files(folder: Path) -> int:
    links = (Path(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd"))
    return sum(str(folder) in os.readlink(link) for link in links if link.is_symlink())


@pytest.mark.usefixtures("cold")
def test_unloading_ends_the_threads_and_closes_the_files(tmp_path: Path) -> None:
    folder = tiny_models.make("llama", tmp_path)
    talk = Talk(folder, on_disk("model.layers", range(4), tmp_path / "offload"))
    assert threads_named("disk") > 0
    assert open_files(folder) > 0
    talk.backend.unload()
    assert threads_named("disk") == 0
    assert open_files(folder) == 0


@pytest.mark.usefixtures("cold")
def test_unloading_gives_the_buffers_and_the_slabs_back(tmp_path: Path) -> None:
    folder = tiny_models.make("llama", tmp_path, hidden_size=512, intermediate_size=4096)
    talk = Talk(folder, on_disk("model.layers", range(2, 4), tmp_path / "offload"))
    before = private_bytes()
    tier = tier_of(talk)
    assert tier is not None
    held = tier.buffer_bytes + talk.inner.weights.by_device["ram"]
    assert held > 60_000_000
    del tier
    talk.backend.unload()
    assert before - private_bytes() > 0.9 * held


def private_bytes() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_Dirty"))


@pytest.mark.usefixtures("cold")
def test_check_39_a_file_that_becomes_shorter_ends_the_turn_with_its_name(tmp_path: Path) -> None:
    folder = tiny_models.make("llama", tmp_path)
    talk = Talk(folder, on_disk("model.layers", range(4), tmp_path / "offload"))
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    os.truncate(file, len(whole) // 2)
    said = talk.ask("Why?")
    assert said.finished.finish_reason is FinishReason.FAILED
    assert said.finished.error == "DamagedCheckpoint"
    assert "model.safetensors has become shorter" in said.finished.message
    file.write_bytes(whole)
    assert "has changed" in talk.ask("Why?").finished.message
    talk.backend.unload()
    again = Talk(folder, on_disk("model.layers", range(4), tmp_path / "offload"))
    assert again.ask("Why?").finished.finish_reason is not FinishReason.FAILED
    again.backend.unload()


@pytest.mark.usefixtures("cold")
def test_a_turn_stopped_at_any_point_leaves_a_ring_that_goes_on(tmp_path: Path) -> None:
    talk = Talk(tiny_models.checkpoint("llama"), on_disk("model.layers", range(4), tmp_path))
    talk.inner.runner._watch_layers()
    whole = talk.ask("Why is that?").text
    for questions in range(1, 30, 3):
        talk.messages.clear()
        talk.ask("Why is that?", cancelled=After(questions))
    talk.messages.clear()
    assert talk.ask("Why is that?").text == whole
    talk.backend.unload()
