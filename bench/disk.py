"""Layers on disk: ours beside accelerate's and the raw disk: `python -m bench.disk [folder] [--quick]`.

P6 and the cold half of P8. A random-weight llama of real shape (1B; 3B: --layers 28 --wide), all its decoder
layers on disk and then the last half. In each round raw direct reads (8 readers x 8 MB), our tier, raw,
accelerate, raw: the shards are evicted before each token, our ring is empty when its clock starts. Then cold
loads into RAM, each between two raw readings; then RAM at its peak against the plan, in an engine process
under a memory cgroup of its budget. Prints a table, then one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForCausalLM, DynamicCache

from bench.host import load_command, never
from bench.models import make
from bench.plan import LARGEST_SHORTFALL, calibrate
from bench.plan import measure as measured_plan
from bench.plan_cases import Case
from bench.plan_watch import cage
from engine.commands import LoadModel
from engine.events import Event, LoadProgress
from engine.hf.backend import HFBackend
from engine.hf.tiers.direct import CHUNK_BYTES, READERS, Extent, FileReader, aligned_memory
from engine.values import LayerPlacement, LoadStage, ModelRef, Placement, Tier

TOKENS = 3
TOKEN = 5
WINDOW = 2048
THREE_B = {"hidden_size": 3072, "num_attention_heads": 24, "num_key_value_heads": 8, "head_dim": 128}
ONE_B = {"num_key_value_heads": 8, "head_dim": 64}
TARGETS = {"all": (0.90, 2.4), "half": (0.85, 2.4)}
LOAD_TARGET = 0.85
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


def rounds(folder: Path, placement: Placement, count: int) -> list[Round]:
    """Measure both ways in turns, after one round that is not counted."""
    ours, theirs = Ours(folder, placement), Theirs(folder, placement)
    measured = [_round(folder, ours, theirs) for _ in range(count + 1)]
    del theirs
    ours.backend.unload()  # it collects garbage: pages that are still mapped cannot be evicted
    return measured[1:]


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


class Stages:
    """When a load entered its stages."""

    def __init__(self) -> None:
        """Begin without one."""
        self.entered: dict[LoadStage, float] = {}

    def __call__(self, event: Event) -> None:
        """Take note of a stage's first event."""
        if isinstance(event, LoadProgress):
            self.entered.setdefault(event.stage, time.perf_counter())


def load_ratios(folder: Path) -> tuple[float, float]:
    """Bytes per second of one cold load into RAM over the raw disk's: until it is placed, and all."""
    backend, stages = HFBackend(), Stages()
    before = raw_bandwidth(folder)
    evict(folder)
    began = time.perf_counter()
    backend.load(load_command(folder), stages, never)
    whole = time.perf_counter() - began
    backend.unload()
    raw = (before + raw_bandwidth(folder)) / 2
    size = sum(file.stat().st_size for file in shards(folder))
    reading = stages.entered[LoadStage.WARM_UP] - stages.entered[LoadStage.READ]
    return size / reading / raw, size / whole / raw


def ram_figures(folder: Path, shares: Iterable[float]) -> Iterator[dict[str, Any]]:
    """Bytes resident at the peak over the plan's, where RAM has such shares of what all of it takes."""
    with cage() as group:
        calibrate(group)
        for share in shares:
            row = measured_plan(Case("llama_large", "bf16", CONTEXT, ram_share=share), folder, group)
            if row.run is None:
                raise SystemExit(f"The plan with {share:g} of the RAM failed: {row.failure}")
            ratio = row.run.peak_bytes / row.predicted_bytes
            yield _figure(f"RAM x{share:g}: peak / plan", [ratio], 1 + LARGEST_SHORTFALL)
            yield _figure(f"RAM x{share:g}: predicted / measured tok/s", [row.decode_ratio], None)


def figures(name: str, measured: list[Round]) -> Iterator[dict[str, Any]]:
    """Reduce rounds to their medians."""
    to_raw, to_peer = TARGETS[name]
    ours = [entry.ours / entry.ours_raw for entry in measured]
    theirs = [entry.theirs / entry.theirs_raw for entry in measured]
    faster = [entry.ours / entry.theirs for entry in measured]
    yield _figure(f"{name} on disk: ours / raw", ours, to_raw)
    yield _figure(f"{name} on disk: accelerate / raw", theirs, None)
    yield _figure(f"{name} on disk: ours / accelerate", faster, to_peer)
    raw = [entry.ours_raw / 1e9 for entry in measured]
    yield _figure(f"{name} on disk: raw, GB/s", raw, None)


def _figure(name: str, samples: list[float], target: float | None) -> dict[str, Any]:
    spread = {"least": round(min(samples), 3), "most": round(max(samples), 3)}
    return {"name": name, "median": round(statistics.median(samples), 3), **spread, "target": target}


def main() -> None:
    """Measure, print the table and then the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="keeps the model between runs")
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--wide", action="store_true", help="the shape of 3B")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="8 layers, one round: does it run")
    asked = parser.parse_args()
    if asked.quick:
        asked.layers, asked.rounds = 8, 1
    with tempfile.TemporaryDirectory(prefix="vramble-bench-") as parent:
        os.environ["XDG_CACHE_HOME"] = parent  # nothing was measured or learned before
        folder = asked.folder or Path(parent) / "random"
        if not shards(folder):
            shape: dict[str, Any] = THREE_B if asked.wide else ONE_B
            make("llama_large", asked.layers, torch.bfloat16, folder, tie_word_embeddings=True, **shape)
        found = measure(folder, asked.layers, asked.rounds)
    for figure in found:
        spread = f"{figure['least']:8.3f} ..{figure['most']:8.3f}"
        print(f"{figure['name']:36}{figure['median']:8.3f}   {spread}   target {figure['target'] or '-'}")
    print(json.dumps({"bench": "disk", "layers": asked.layers, "figures": found}))


def measure(folder: Path, layers: int, count: int) -> list[dict[str, Any]]:
    """All figures of one model."""
    parts = {"all": range(layers), "half": range(layers // 2, layers)}
    found = [
        figure
        for name, on_disk in parts.items()
        for figure in figures(name, rounds(folder, placed(layers, on_disk), count))
    ]
    reading, whole = zip(*(load_ratios(folder) for _ in range(count)), strict=True)
    found += [_figure("cold load, read and placed / raw", list(reading), LOAD_TARGET)]
    found += [_figure("cold load, with its warm-up / raw", list(whole), None)]
    return [*found, *ram_figures(folder, RAM_SHARES)]


if __name__ == "__main__":
    main()
