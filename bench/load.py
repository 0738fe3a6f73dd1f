"""P8: loads beside the raw disk and beside transformers: `python -m bench.load [folder] [--quick]`.

A random-weight llama of 1B's shape. Once kernels are compiled, from a process's start to its first
token, ours beside transformers, each cold, in turns; then cold loads, then nf4, packed and read
again. Cold: the shards are evicted, and memory that a hypervisor may have taken back is
touched once before, for no load can be faster than that. Prints a table, then one JSON line.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import mmap
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from bench.disk import LOAD_TARGET, ONE_B, Stages, _figure, evict, raw_bandwidth, shards
from bench.host import Client, generate_command, load_command, never
from bench.models import make
from engine.checkpoint import inspect_folder
from engine.commands import LoadModel
from engine.events import TextDelta, TurnFinished
from engine.hf.backend import HFBackend
from engine.ram import read_bytes_from_disk
from engine.values import LoadStage, ModelRef, Placement, Quantization, SamplingParams

SPARE_BYTES = 256 << 20
PACKED_TARGET = 0.6
START_TARGET = 0.8
THEIRS = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1], local_files_only=True)
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype="auto", local_files_only=True).eval()
ids = tokenizer("Why?", return_tensors="pt")
with torch.inference_mode():
    model.generate(**ids, max_new_tokens=1, do_sample=False, pad_token_id=0)
"""


def touch_memory(size: int) -> None:
    """Use and give back so much memory: a virtual machine's host may take milliseconds for each page anew."""
    pages = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    pages.madvise(mmap.MADV_HUGEPAGE)
    first = ctypes.c_char.from_buffer(pages)
    ctypes.memset(ctypes.addressof(first), 1, size)
    del first
    pages.close()


def prepare(folder: Path) -> None:
    """Have nothing of a model cached, and room for it."""
    evict(folder)
    touch_memory(sum(file.stat().st_size for file in shards(folder)) + SPARE_BYTES)


def cold_load(backend: HFBackend, folder: Path) -> tuple[float, float]:
    """Bytes per second over the raw disk's of one cold load: from the command until it is placed, and all."""
    stages, before = Stages(), raw_bandwidth(folder)
    prepare(folder)
    began = time.perf_counter()
    backend.load(load_command(folder), stages, never)
    whole = time.perf_counter() - began
    backend.unload()
    raw = (before + raw_bandwidth(folder)) / 2
    size = sum(file.stat().st_size for file in shards(folder))
    return size / (stages.entered[LoadStage.WARM_UP] - began) / raw, size / whole / raw


def packed_loads(backend: HFBackend, folder: Path) -> Iterator[dict[str, Any]]:
    """Load nf4 twice: what the second one reads, and how long each takes."""
    seconds = [_packed_seconds(backend, folder)]
    before = read_bytes_from_disk(os.getpid())
    seconds.append(_packed_seconds(backend, folder))
    read = read_bytes_from_disk(os.getpid()) - before
    parameters = inspect_folder(folder).parameters
    yield _figure("nf4 again: bytes read per parameter", [read / parameters], PACKED_TARGET)
    yield _figure("nf4, seconds of the first load", seconds[:1], None)
    yield _figure("nf4, seconds of the second load", seconds[1:], None)


def _packed_seconds(backend: HFBackend, folder: Path) -> float:
    prepare(folder)
    placement = Placement(context_window=2048, quantization=Quantization.NF4)
    began = time.perf_counter()
    backend.load(
        LoadModel(model=ModelRef(name="nf4", folder=folder), placement=placement), lambda _: None, never
    )
    taken = time.perf_counter() - began
    if backend._keeper is not None:
        backend._keeper.wait()
    backend.unload()
    return taken


def our_start(folder: Path) -> float:
    """Seconds from the engine process's start to its first token."""
    prepare(folder)
    began = time.perf_counter()
    client = Client()
    client.load(folder)
    client._turn_id += 1
    client._engine.submit(generate_command("Why?", SamplingParams(max_new_tokens=1), client._turn_id))
    at, _ = client._wait(lambda event: isinstance(event, TextDelta | TurnFinished))
    client.close()
    return at - began


def their_start(folder: Path) -> float:
    """Seconds of a Python process that loads the model with transformers and generates one token."""
    prepare(folder)
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", THEIRS, str(folder)], check=True, capture_output=True)
    return time.perf_counter() - began


def measure(folder: Path, count: int) -> Iterator[dict[str, Any]]:
    """All figures of one model."""
    backend = HFBackend()
    gc.freeze()  # as the engine process does
    backend.load(load_command(folder), lambda _: None, never)  # compiles kernels, and imports the class
    backend.unload()
    starts = [(our_start(folder), their_start(folder)) for _ in range(count)]
    placed, whole = zip(*(cold_load(backend, folder) for _ in range(count)), strict=True)
    yield _figure("cold load, until placed / raw", list(placed), LOAD_TARGET)
    yield _figure("cold load, with its warm-up / raw", list(whole), None)
    yield _figure("start to first token / transformers", [o / t for o, t in starts], START_TARGET)
    yield _figure("start to first token, s", [ours for ours, _ in starts], None)
    yield from packed_loads(backend, folder)


def main() -> None:
    """Measure, print the table and then the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="keeps the model between runs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round: does it run")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vramble-bench-") as parent:
        os.environ["XDG_CACHE_HOME"] = parent  # nothing was measured, learned or kept before
        folder = asked.folder or Path(parent) / "random"
        if not shards(folder):
            make("llama_large", 16, torch.bfloat16, folder, tie_word_embeddings=True, **ONE_B)
        found = []
        for figure in measure(folder, 1 if asked.quick else asked.rounds):
            found.append(figure)
            spread = f"{figure['least']:8.3f} ..{figure['most']:8.3f}"
            target = figure["target"] or "-"
            print(f"{figure['name']:38}{figure['median']:8.3f}   {spread}   target {target}", flush=True)
    print(json.dumps({"bench": "load", "figures": found}))


if __name__ == "__main__":
    main()
