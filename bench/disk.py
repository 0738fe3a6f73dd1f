"""Layers on disk: ours beside accelerate's and the raw disk: `python -m bench.disk [folder] [--quick]`.

P6. Random-weight llamas in the shapes of 1B and 3B, all their decoder layers on disk and then the last half.
In each round raw direct reads (8 readers x 8 MB), our tier, raw, accelerate, raw: the shards are evicted
before each token, our ring is empty when its clock starts. Then RAM at its peak against the plan, in an
engine process under a memory cgroup of its budget. Prints a table, then one JSON line.
"""

from __future__ import annotations

import functools
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.utils import logging as transformers_logging

from bench.client import never
from bench.plan import LARGEST_SHORTFALL, calibrate
from bench.plan import measure as measured_plan
from bench.plan_cases import Case as PlannedCase
from bench.plan_watch import Cage, cage
from bench.rows import Aim, Asked, Case, Measured, Rounds, Row, Sample, run
from bench.shapes import Shape, layers_of, model_folder, on_model
from engine.commands import LoadModel
from engine.hf.backend import HFBackend
from engine.hf.tiers.direct import CHUNK_BYTES, READERS, Extent, FileReader, aligned_memory
from engine.values import LayerPlacement, ModelRef, Placement, Tier

TOKENS = 3
TOKEN = 5
WINDOW = 2048
GB = 1e9
SPARE_BYTES = 4 << 30
"""Free on the disk beside the largest model."""
LARGE_BYTES = 7 << 30
LARGE_MINUTES = 4.0
"""Less time than that is for the smaller model alone."""
TARGETS = {"all": (0.90, 2.4), "half": (0.85, 2.4)}
CONTEXT = 512
RAM_SHARES = (0.9, 0.7)
MAP_NAMES = {Tier.DISK: "disk", Tier.CPU: "cpu"}


class Round(NamedTuple):
    """One round: bytes per second; `raw` around each block, the mean of before and after."""

    ours: float
    ours_raw: float
    theirs: float
    theirs_raw: float


def shards(folder: Path) -> list[Path]:
    """The weight files."""
    return sorted(folder.glob("*.safetensors"))


def evict(folder: Path) -> None:
    """Drop the shards from the page cache."""
    for file in shards(folder):
        descriptor = os.open(file, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def raw_bandwidth(folder: Path) -> float:
    """Bytes per second of direct reads of all shards."""
    memory = aligned_memory(READERS * CHUNK_BYTES)
    reader, done = FileReader(), 0
    extents = list(_chunks(folder))
    began = time.perf_counter()
    reads = [reader.read([extent], memory) for extent in extents]
    for extent, read in zip(extents, reads, strict=True):
        read.result()
        done += extent.length
    seconds = time.perf_counter() - began
    reader.close()
    return done / seconds


def _chunks(folder: Path) -> Iterator[Extent]:
    for file in shards(folder):
        size = file.stat().st_size
        for index, start in enumerate(range(0, size, CHUNK_BYTES)):
            position = index % READERS * CHUNK_BYTES
            yield Extent(file, start, min(CHUNK_BYTES, size - start), position)


def placed(layers: int, on_disk: range) -> Placement:
    """Some decoder layers on disk, everything else in RAM."""
    names = [f"model.layers.{index}" for index in range(layers)]
    tiers = [Tier.DISK if index in on_disk else Tier.CPU for index in range(layers)]
    placements = [_layer(name, tier) for name, tier in zip(names, tiers, strict=True)]
    placements[:0] = [_layer("model.embed_tokens", Tier.CPU)]
    placements += [_layer("model.norm", Tier.CPU), _layer("lm_head", Tier.CPU)]
    return Placement(context_window=WINDOW, layers=tuple(placements))


def _layer(name: str, tier: Tier) -> LayerPlacement:
    return LayerPlacement(name=name, bytes=0, tier=tier, device="disk" if tier is Tier.DISK else "ram")


class Ours:
    """Our engine with a placement."""

    def __init__(self, folder: Path, placement: Placement) -> None:
        """Load it."""
        self.backend = HFBackend()
        model = ModelRef(name=folder.name, folder=folder)
        self.backend.load(LoadModel(model=model, placement=placement), lambda _: None, never)
        loaded, placed_model = self.backend._loaded, self.backend._placed
        if loaded is None or placed_model is None or placed_model.tier is None:
            raise SystemExit("The disk tier does not serve this model.")
        self.runner, self.tier = loaded.runner, placed_model.tier
        self.disk_bytes = loaded.weights.by_device["disk"]

    def rest(self) -> None:
        """Empty the ring."""
        self.tier.rest()

    def step(self) -> None:
        """Compute one token."""
        self.runner.feed([TOKEN])


class Theirs:
    """Transformers with accelerate's disk offload and the same placement."""

    def __init__(self, folder: Path, placement: Placement) -> None:
        """Load it."""
        device_map = {layer.name: MAP_NAMES[layer.tier] for layer in placement.layers}
        device_map["model.rotary_emb"] = "cpu"
        with tempfile.TemporaryDirectory() as offload:
            self._model: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype="auto", device_map=device_map, offload_folder=offload, local_files_only=True
            ).eval()
        self._cache = DynamicCache(config=self._model.config)
        self._ids = torch.tensor([[TOKEN]])

    @torch.inference_mode()
    def step(self) -> None:
        """Compute one token."""
        self._model(input_ids=self._ids, past_key_values=self._cache, use_cache=True)


def seconds_per_token(folder: Path, step: Callable[[], None]) -> float:
    """Mean over TOKENS, each with the shards evicted before it; evicting is not counted."""
    taken = []
    for _ in range(TOKENS):
        evict(folder)
        began = time.perf_counter()
        step()
        taken.append(time.perf_counter() - began)
    return sum(taken) / len(taken)


def both(folder: Path, placement: Placement, rounds: Rounds) -> Measured[Round]:
    """Measure both ways in turns, after one round that is not counted."""
    transformers_logging.disable_progress_bar()
    ours, theirs = Ours(folder, placement), Theirs(folder, placement)
    if not rounds.is_quick:
        _round(folder, ours, theirs)
    measured = rounds.of(functools.partial(_round, folder, ours, theirs))
    del theirs
    ours.backend.unload()  # it collects garbage: pages that are still mapped cannot be evicted
    return measured


def _round(folder: Path, ours: Ours, theirs: Theirs) -> Round:
    raw = [raw_bandwidth(folder)]
    ours.rest()
    mine = seconds_per_token(folder, ours.step)
    ours.rest()
    raw.append(raw_bandwidth(folder))
    other = seconds_per_token(folder, theirs.step)
    raw.append(raw_bandwidth(folder))
    size = ours.disk_bytes
    return Round(size / mine, sum(raw[:2]) / 2, size / other, sum(raw[1:]) / 2)


def disk_rows(label: str, layers: int, folder: Path, rounds: Rounds) -> Iterator[Row]:
    """Bytes per second of a model, all of it on disk and half."""
    parts = {"all": range(layers), "half": range(layers // 2, layers)}
    for part, on_disk in parts.items():
        measured = both(folder, placed(layers, on_disk), rounds)
        to_raw, to_peer = TARGETS[part]
        name = f"{label}, {part} on disk"
        aim = Aim("P6", name, "GB/s", to_raw, "accelerate", to_peer)
        yield aim.row(measured.each(lambda r: Sample(r.ours / GB, r.ours_raw / GB, r.theirs / GB)))
        aim = Aim("P6", f"{name}, accelerate", "GB/s")
        yield aim.row(measured.each(lambda r: Sample(r.theirs / GB, r.theirs_raw / GB)))


def ram_rows(folder: Path, rounds: Rounds) -> Iterator[Row]:
    """Bytes resident at the peak beside the plan's, where RAM has such shares of what all of it takes."""
    with cage() as group:
        calibrate(group)
        for share in RAM_SHARES[:1] if rounds.is_quick else RAM_SHARES:
            yield from _ram_share(folder, share, group)


def _ram_share(folder: Path, share: float, group: Cage) -> Iterator[Row]:
    row = measured_plan(PlannedCase("llama_large", "bf16", CONTEXT, ram_share=share), folder, group)
    if row.run is None:
        raise SystemExit(f"The plan with {share:g} of the RAM failed: {row.failure}")
    is_disturbed = not row.is_undisturbed
    peak = Measured([Sample(row.run.peak_bytes / GB, row.predicted_bytes / GB)], is_disturbed)
    aim = Aim("P6", f"peak and plan, {share:g} of the RAM", "GB", 1 + LARGEST_SHORTFALL, less_is_better=True)
    yield aim.row(peak)
    forecast = row.placement.forecast
    speed = Sample(row.run.decode_tps, forecast.decode_tps_full if forecast else None)
    yield Aim("P6", f"speed and forecast, {share:g} of the RAM", "tok/s").row(Measured([speed], is_disturbed))


def cases(asked: Asked) -> Iterator[Case]:
    """The smaller model, and the larger one where time and disk allow it."""
    rows = functools.partial(disk_rows, "1B", layers_of(Shape.ONE_B, asked))
    yield Case("P6:1b", on_model(asked, Shape.ONE_B, rows))
    rows = functools.partial(disk_rows, "3B", layers_of(Shape.THREE_B, asked))
    yield Case("P6:3b", on_large_model(asked, rows))
    yield Case("P6:plan", on_model(asked, Shape.ONE_B, ram_rows))


def on_large_model(
    asked: Asked, rows: Callable[[Path, Rounds], Iterator[Row]]
) -> Callable[[Rounds], Iterator[Row]]:
    """Measure rows on the larger model, where time and disk allow it."""

    def measure(rounds: Rounds) -> Iterator[Row]:
        if has_time_and_room(asked):
            yield from rows(model_folder(asked, Shape.THREE_B), rounds)

    return measure


def has_time_and_room(asked: Asked) -> bool:
    """Whether the larger model is measured; whoever names a case of it has the time."""
    is_named = any(":3b" in wish for wish in asked.only)
    asked.folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(asked.folder).free
    is_made = any(asked.folder.glob(f"random-{Shape.THREE_B.value}-*"))
    has_time = is_named or (not asked.quick and asked.minutes >= LARGE_MINUTES)
    if has_time and (is_made or free >= LARGE_BYTES + SPARE_BYTES):
        return True
    print("3B: not measured, too little time or disk", file=sys.stderr, flush=True)
    return False


if __name__ == "__main__":
    run("disk", __doc__, cases)
