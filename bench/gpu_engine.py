"""P8 warm, P9, P10, P15 through the engine, in a process of its own.

`python -m bench.gpu_engine FOLDER CAP`: CAP is what the plan may take of GPU 0 in bytes; 0 takes what
is free. The last line is one JSON object.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from bench.gpu_rig import Figure, Rig
from bench.models import make
from bench.plan_run import prompt_of
from engine.commands import Generate, LoadModel
from engine.hf.backend import HFBackend
from engine.memory import read_memory
from engine.plan import place
from engine.plan.limits import kept_limits
from engine.values import BudgetRequest, ChatMessage, ModelRef, Placement, Role, SamplingParams

MIB = 1 << 20
REPLY_TOKENS = 16
CONTEXT_WINDOW = 4096
PATIENCE_SECONDS = 180.0
SAMPLE_SECONDS = 0.01
SHAPE_LAYERS = 28
SHAPE_3B: dict[str, object] = {
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_attention_heads": 24,
    "num_key_value_heads": 8,
}


class Seen(NamedTuple):
    """What one load and one conversation took on the device that computes, in bytes and seconds.

    Attributes:
        predicted: by the plan, its runtime included.
        peak: measured, above what lay there before.
        cap: what the plan might take; 0 where nothing had to be kept off the device.
        load_seconds: from the command to the loaded model.
        unload_seconds: until the memory is back.
        left: what was not given back.
        weights: of the model.
    """

    predicted: int
    peak: int
    cap: int
    load_seconds: float
    unload_seconds: float
    left: int
    weights: int


class Peak:
    """Samples a figure beside what runs, and keeps the highest."""

    def __init__(self, read: Callable[[], int]) -> None:
        """Start sampling.

        Args:
            read: returns the figure now, in bytes.
        """
        self._read = read
        self._ended = threading.Event()
        self.highest = read()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """Return the highest."""
        self._ended.set()
        self._thread.join()
        return self.highest

    def _run(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            self.highest = max(self.highest, self._read())


def used_bytes() -> int:
    """What is used of GPU 0, or what this process holds of RAM where there is none."""
    reading = read_memory(os.getpid())
    return reading.gpus[0].vram_used if torch.cuda.is_available() else reading.ram.engine_anonymous_bytes


def never() -> bool:
    """Go on."""
    return False


def observe(folder: Path, cap: int) -> Seen:
    """Plan, load, fill the context, unload; everything before the load counts as there before."""
    backend = HFBackend()
    before = used_bytes()
    _settle(backend)
    budgets = BudgetRequest(gpu=((0, cap),)) if cap and torch.cuda.is_available() else BudgetRequest()
    placement = place(folder, context_window=CONTEXT_WINDOW, budgets=budgets, pid=os.getpid())
    idle = used_bytes()
    peak = Peak(used_bytes)
    model = ModelRef(name=folder.name, folder=folder)
    began = time.perf_counter()
    backend.load(LoadModel(turn_id=0, model=model, placement=placement), lambda _: None, never)
    loaded = time.perf_counter() - began
    _talk(backend)
    highest = peak.stop() - before
    began = time.perf_counter()
    backend.unload()
    return Seen(
        predicted=_predicted(placement),
        peak=highest,
        cap=cap,
        load_seconds=loaded,
        unload_seconds=time.perf_counter() - began,
        left=used_bytes() - idle,
        weights=sum(layer.bytes for layer in placement.layers),
    )


def _settle(backend: HFBackend) -> None:
    """Know this machine, and make the context that stays when a model goes."""
    if torch.cuda.is_available():
        if kept_limits() is None:
            backend.measure_limits(never)
        torch.zeros(1, device="cuda")


def _predicted(placement: Placement) -> int:
    wanted = "gpu:0" if torch.cuda.is_available() else "ram"
    return next(device.predicted_bytes for device in placement.devices if device.device == wanted)


def _talk(backend: HFBackend) -> None:
    """One message that fills the context, and a short reply."""
    assert backend._loaded is not None
    tokens = backend._loaded.window.tokens - REPLY_TOKENS - 1
    message = ChatMessage(role=Role.USER, content=prompt_of(backend._loaded.tokenizer, tokens))
    sampling = SamplingParams(temperature=0.0, max_new_tokens=REPLY_TOKENS)
    for _ in backend.generate(Generate(turn_id=1, messages=(message,), sampling=sampling), never):
        pass


def engine(rig: Rig) -> Iterator[Figure]:
    """Run a 3B shape resident, then with room for 6 tenths of its weights, each in a process of its own."""
    rig.free()
    tiny = rig.device.type != "cuda"
    with tempfile.TemporaryDirectory() as parent:
        changes: dict[str, Any] = {"max_position_embeddings": CONTEXT_WINDOW, **({} if tiny else SHAPE_3B)}
        if tiny:
            changes |= {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
        layers = 2 if tiny else SHAPE_LAYERS
        folder = make("llama", layers, torch.bfloat16, Path(parent) / "model", **changes)
        resident = _in_a_process(folder, 0)
        yield from _load_figures(rig, folder, resident)
        yield _prediction("resident", resident)
        yield from _unload_figures(resident)
        offloaded = _in_a_process(folder, resident.weights * 6 // 10)
        yield _prediction("offloaded", offloaded)
        idle = offloaded.cap - offloaded.peak
        allowed = offloaded.cap * 0.02 + 300 * MIB
        yield Figure("P10", "memory left idle beside RAM", idle / MIB, "MiB", idle / allowed, 1.0, most=True)


def _load_figures(rig: Rig, folder: Path, seen: Seen) -> Iterator[Figure]:
    """P8: files in the page cache, against the link; the imports were done before."""
    from transformers import AutoModelForCausalLM

    def load() -> None:
        AutoModelForCausalLM.from_pretrained(folder, device_map={"": rig.device}, dtype="auto")
        rig.free()

    limit = seen.weights / rig.link_bandwidth
    yield Figure("P8", "warm load", seen.load_seconds, "s", limit / seen.load_seconds, 0.75)
    peer = rig.seconds(load, 2)
    yield Figure("", "from_pretrained, warm", peer, "s", limit / peer)


def _prediction(name: str, seen: Seen) -> Figure:
    """P9: how far off, as a share of max(2 %, 256 MiB); more than 1 % too little fails whatever that is."""
    off = seen.peak - seen.predicted
    allowed = max(0.02 * seen.predicted, 256 * MIB)
    share = abs(off) / allowed
    if off > 0.01 * seen.predicted:
        share = max(share, 1.01)
    return Figure("P9", f"peak beside the plan, {name}", off / MIB, "MiB", share, 1.0, most=True)


def _unload_figures(seen: Seen) -> Iterator[Figure]:
    yield Figure("P15", "unload", seen.unload_seconds, "s", seen.unload_seconds, 1.0, most=True)
    share = seen.left / (64 * MIB)
    yield Figure("P15", "not given back (64 MiB allowed)", seen.left / MIB, "MiB", share, 1.0, most=True)


def _in_a_process(folder: Path, cap: int) -> Seen:
    command = [sys.executable, "-m", "bench.gpu_engine", str(folder), str(cap)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["it ended without a word"])[-1])
    return Seen(**json.loads(done.stdout.strip().splitlines()[-1]))


if __name__ == "__main__":
    print(json.dumps(observe(Path(sys.argv[1]), int(sys.argv[2]))._asdict()))
