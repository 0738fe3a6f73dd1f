"""P8: loads beside the raw disk and beside transformers: `python -m bench.load [folder] [--quick]`.

Random-weight llamas in the shapes of 1B and 3B. Cold loads beside direct reads of the same files; warm loads
and one token beside transformers' own, which only maps the files until that token; RAM at the peak of a load;
nf4, packed and read again, and from a process's start to its first token, cold, in both shapes. Cold: the
shards are evicted, and memory that a hypervisor may have taken back is touched once before, for no load can
be faster than that. `--only P8:3b-start` measures one case alone: cold, warm, nf4, start, peak, 3b-start,
3b-nf4. Prints a table, then one JSON line.
"""

from __future__ import annotations

import functools
import gc
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from bench.client import Client, load_command, never
from bench.disk import GB, evict, on_large_model, raw_bandwidth, shards
from bench.plan_watch import Watch, resident
from bench.quiet import touch_memory
from bench.rows import Aim, Asked, Case, Measured, Rounds, Row, Sample, run
from bench.shapes import Shape, on_model
from engine.checkpoint import inspect_folder
from engine.commands import LoadModel
from engine.events import Event, LoadProgress
from engine.guide import FOLDER
from engine.hf.backend import HFBackend
from engine.plan.packed import packed_file
from engine.ram import read_bytes_from_disk
from engine.values import LoadStage, ModelRef, Placement, Quantization

SPARE_BYTES = 256 << 20
COLD_TARGET, START_TARGET, WARM_TARGET = 0.85, 1 / 0.8, 1.0
PACKED_BYTES = 0.6
"""A parameter, read by the second load of nf4."""
PEAK_SPARE_BYTES = 300 << 20
THEIRS = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1], local_files_only=True)
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype="auto", local_files_only=True).eval()
ids = tokenizer("Why?", return_tensors="pt")
with torch.inference_mode():
    model.generate(**ids, max_new_tokens=1, do_sample=False, pad_token_id=0)
"""


THEIR_PEAK = """
import os, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from bench.plan_watch import Watch, resident
import transformers.models.llama.modeling_llama
before = resident(os.getpid()).total
watch = Watch(os.getpid())
watch.enter("load")
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype="auto", local_files_only=True).eval()
with torch.inference_mode():
    model(torch.tensor([[5]]))
print(watch.stop()["load"].total - before)
"""


class Stages:
    """When a load entered its stages."""

    def __init__(self) -> None:
        """Begin without one."""
        self.entered: dict[LoadStage, float] = {}

    def __call__(self, event: Event) -> None:
        """Take note of a stage's first event."""
        if isinstance(event, LoadProgress):
            self.entered.setdefault(event.stage, time.perf_counter())


def prepare(folder: Path) -> None:
    """Have nothing of a model cached, and room for it."""
    evict(folder)
    touch_memory(sum(file.stat().st_size for file in shards(folder)) + SPARE_BYTES)


class Load(NamedTuple):
    """One load.

    Attributes:
        placed: seconds from the command until all weights are where they belong.
        whole: seconds with the warm-up.
        raw: bytes per second of direct reads around it.
    """

    placed: float
    whole: float
    raw: float


def cold_load(backend: HFBackend, folder: Path) -> Load:
    """Load files that are not cached, between two raw readings."""
    stages, before = Stages(), raw_bandwidth(folder)
    prepare(folder)
    began = time.perf_counter()
    backend.load(load_command(folder), stages, never)
    whole = time.perf_counter() - began
    backend.unload()
    raw = (before + raw_bandwidth(folder)) / 2
    return Load(stages.entered[LoadStage.WARM_UP] - began, whole, raw)


def file_bytes(folder: Path) -> int:
    """Of all shards."""
    return sum(file.stat().st_size for file in shards(folder))


def warm_backend(folder: Path) -> HFBackend:
    """An engine that has compiled its kernels and imported the model's class."""
    backend = HFBackend()
    gc.freeze()  # as the engine process does
    backend.load(load_command(folder), lambda _: None, never)
    backend.unload()
    return backend


def cold_rows(folder: Path, rounds: Rounds) -> Iterator[Row]:
    """Bytes per second beside the raw disk's."""
    backend, size = warm_backend(folder), file_bytes(folder) / GB
    measured = rounds.of(lambda: cold_load(backend, folder))
    aim = Aim("P8", "cold load, until placed", "GB/s", COLD_TARGET)
    yield aim.row(measured.each(lambda load: Sample(size / load.placed, load.raw / GB)))
    aim = Aim("P8", "cold load, with its warm-up", "GB/s")
    yield aim.row(measured.each(lambda load: Sample(size / load.whole, load.raw / GB)))


class WarmLoad(NamedTuple):
    """Seconds of loads whose files are cached: until placed, and until a token was computed.

    Ours has a tokenizer by then; theirs is timed apart.
    """

    placed: float
    whole: float
    their_call: float
    their_whole: float
    their_tokenizer: float


def warm_rows(folder: Path, rounds: Rounds) -> Iterator[Row]:
    """Seconds until a token can be computed, which ours has done by then."""
    transformers_logging.disable_progress_bar()
    backend = warm_backend(folder)
    _cache(folder)
    ours_first = itertools.cycle((True, False))
    measured = rounds.of(lambda: _warm_load(backend, folder, ours_first))
    aim = Aim("P8", "warm load, one token computed", "s", None, "transformers", WARM_TARGET, True)
    yield aim.row(measured.each(lambda load: Sample(load.whole, None, load.their_whole)))
    aim = Aim("P8", "warm load, one token, with both tokenizers", "s", None, "transformers", None, True)
    both = measured.each(lambda load: Sample(load.whole, None, load.their_whole + load.their_tokenizer))
    yield aim.row(both)
    aim = Aim("P8", "warm load, until placed or mapped", "s", None, "transformers", None, True)
    yield aim.row(measured.each(lambda load: Sample(load.placed, None, load.their_call)))


def _cache(folder: Path) -> None:
    for file in shards(folder):
        with file.open("rb", buffering=0) as stream:
            while stream.read(16 << 20):
                pass


@torch.inference_mode()
def _warm_load(backend: HFBackend, folder: Path, ours_first: Iterator[bool]) -> WarmLoad:
    """Load once each. No memory is touched before: a host that takes it back slows down who comes next."""
    if next(ours_first):
        ours = _our_warm_load(backend, folder)
        return WarmLoad(*ours, *_their_warm_load(folder))
    theirs = _their_warm_load(folder)
    return WarmLoad(*_our_warm_load(backend, folder), *theirs)


def _our_warm_load(backend: HFBackend, folder: Path) -> tuple[float, float]:
    """Seconds until placed, and until a token was computed."""
    stages, began = Stages(), time.perf_counter()
    backend.load(load_command(folder), stages, never)
    whole = time.perf_counter() - began
    backend.unload()
    return stages.entered[LoadStage.WARM_UP] - began, whole


def _their_warm_load(folder: Path) -> tuple[float, float, float]:
    """Seconds until mapped, until a token was computed, and of the tokenizer alone."""
    started = time.perf_counter()
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", local_files_only=True).eval()
    mapped = time.perf_counter() - started
    model(torch.tensor([[5]]))
    whole = time.perf_counter() - started
    AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return mapped, whole, time.perf_counter() - started - whole


def peak_rows(folder: Path, rounds: Rounds) -> Iterator[Row]:
    """RAM at the peak of a load, above what the process held when everything was imported."""
    allowed = (inspect_folder(folder).weight_bytes + PEAK_SPARE_BYTES) / GB
    measured = rounds.of(lambda: Sample(our_peak(folder) / GB, allowed, their_peak(folder) / GB))
    aim = Aim("P8", "peak RAM of a load", "GB", 1.0, "transformers", None, True)
    yield aim.row(measured)


def our_peak(folder: Path) -> int:
    """Bytes that an engine process adds to those with a small model, which made it import everything."""
    prepare(folder)
    client = Client()
    client.load(FOLDER)
    client.answer("Why?")
    before = resident(client.pid).total
    watch = Watch(client.pid)
    watch.enter("load")
    client.load(folder)
    peak = watch.stop()["load"].total - before
    client.close()
    return peak


def their_peak(folder: Path) -> int:
    """Bytes that transformers adds, with one token computed: before that it has only mapped the files."""
    prepare(folder)
    command = [sys.executable, "-c", THEIR_PEAK, str(folder)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def packed_rows(label: str, folder: Path, rounds: Rounds) -> Iterator[Row]:
    """Load nf4, once quantized and then as it was kept: what the later ones read, and how long each takes."""
    backend, verdict = warm_backend(FOLDER), inspect_folder(folder)
    first = _packed_seconds(backend, folder, verdict.parameters)
    yield Aim("P8", f"{label}nf4, first load, quantized", "s").row(Measured([Sample(first)]))
    if packed_file(verdict, Quantization.NF4) is None:
        print(f"{label}nf4: not measured again, the disk has no room to keep it", file=sys.stderr, flush=True)
        return
    measured = rounds.of(lambda: _packed_again(backend, folder, verdict.parameters))
    aim = Aim("P8", f"{label}nf4 again, bytes read a parameter", "bytes", 1.0, less_is_better=True)
    yield aim.row(measured.each(lambda load: Sample(load[0], PACKED_BYTES)))
    yield Aim("P8", f"{label}nf4 again", "s").row(measured.each(lambda load: Sample(load[1])))


def _packed_again(backend: HFBackend, folder: Path, parameters: int) -> tuple[float, float]:
    before = read_bytes_from_disk(os.getpid())
    taken = _packed_seconds(backend, folder, parameters)
    return (read_bytes_from_disk(os.getpid()) - before) / parameters, taken


def _packed_seconds(backend: HFBackend, folder: Path, parameters: int) -> float:
    """Load once; packed weights take less than a byte a parameter."""
    evict(folder)
    touch_memory(parameters + SPARE_BYTES)
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
    at = client.answer("Why?")
    client.close()
    return at - began


def their_start(folder: Path) -> float:
    """Seconds of a Python process that loads the model with transformers and generates one token."""
    prepare(folder)
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", THEIRS, str(folder)], check=True, capture_output=True)
    return time.perf_counter() - began


def start_rows(label: str, folder: Path, rounds: Rounds) -> Iterator[Row]:
    """Seconds from a process's start to its first token, cold, ours and transformers' in turns."""
    our_start(folder)  # compiles kernels
    measured = rounds.of(lambda: Sample(our_start(folder), None, their_start(folder)))
    name = f"{label}, start to first token"
    yield Aim("P8", name, "s", None, "transformers", START_TARGET, True).row(measured)


def cases(asked: Asked) -> Iterator[Case]:
    """All of it; the larger model where time and disk allow it."""
    small = functools.partial(on_model, asked, Shape.ONE_B)
    yield Case("P8:cold", small(cold_rows))
    yield Case("P8:warm", small(warm_rows))
    yield Case("P8:nf4", small(functools.partial(packed_rows, "")))
    yield Case("P8:start", small(functools.partial(start_rows, "1B")))
    yield Case("P8:peak", small(peak_rows))
    yield Case("P8:3b-start", on_large_model(asked, functools.partial(start_rows, "3B")))
    yield Case("P8:3b-nf4", on_large_model(asked, functools.partial(packed_rows, "3B ")))


if __name__ == "__main__":
    run("load", __doc__, cases)
