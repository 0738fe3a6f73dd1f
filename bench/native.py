"""Decode on the CPU: our kernels beside transformers and the memory: `python -m bench.native [folder]`.

P5. A random-weight llama in the shape of 1B, as bf16 and as nf4, at 64 and at 2,048 tokens of context. In
each block: a reading of a gigabyte by all threads, some steps of ours, a reading, some of transformers, a
reading; each figure is the share of the mean of the readings around it. With `--llama-cpp PYTHON`, an
interpreter that has llama-cpp-python and gguf, llama.cpp takes its turn in each block, with the same shape as
bf16 and as Q4_0, and both compute prompts of 512 and 2,048 tokens. Prints a table, then one JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, DynamicCache
from transformers.utils import logging as transformers_logging

from bench.engine import never
from bench.models import make
from engine.commands import LoadModel
from engine.hf.backend import HFBackend
from engine.hf.decode import Runner
from engine.hf.native.foundry import Foundry
from engine.hf.native.library import Kernels
from engine.values import ModelRef, Placement, Quantization

ONE_B = {"num_key_value_heads": 8, "head_dim": 64, "tie_word_embeddings": True}
LAYERS = 16
CONTEXTS = (64, 2048)
STEPS = 4
TOKEN = 7
PROBE_BYTES = 1 << 30
PROMPTS = (512, 2048)
PEER_TARGETS = {Quantization.NONE: (0.95, 0.95), Quantization.NF4: (0.95, 1.2)}
TARGETS = {Quantization.NONE: 0.85, Quantization.NF4: 0.75}


class Block(NamedTuple):
    """Seconds a token, and bytes per second of the readings around them."""

    ours: float
    ours_probe: float
    theirs: float
    theirs_probe: float
    peer: float = 0.0


class Peer:
    """llama.cpp in a process of its own; without an interpreter for it, nothing is measured."""

    def __init__(self, python: Path | None, kind: Quantization, folder: Path) -> None:
        """Start it with weights of the same kind."""
        stored = {Quantization.NONE: "BF16", Quantization.NF4: "Q4_0"}[kind]
        script = Path(__file__).with_name("llama_cpp.py")
        self._process = python and subprocess.Popen(
            [python, "-P", script, stored, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def seconds(self, do: str, tokens: int) -> float:
        """The median time of one answer; 0 where there is no peer."""
        if not self._process or not self._process.stdin or not self._process.stdout:
            return 0.0
        self._process.stdin.write(json.dumps({"do": do, "tokens": tokens}) + "\n")
        self._process.stdin.flush()
        taken: list[float] = json.loads(self._process.stdout.readline())["seconds"]
        return statistics.median(taken)

    def close(self) -> None:
        """End it."""
        if self._process:
            self._process.kill()
            self._process.wait()


def loaded(folder: Path, kind: Quantization) -> tuple[HFBackend, Runner]:
    """Load it as the product does."""
    backend = HFBackend()
    placement = Placement(context_window=2 * CONTEXTS[-1], quantization=kind)
    model = ModelRef(name=folder.name, folder=folder)
    backend.load(LoadModel(model=model, placement=placement), lambda _: None, never)
    if backend._loaded is None or backend._loaded.runner.decoder is None:
        raise SystemExit("The kernels do not serve the model.")
    return backend, backend._loaded.runner


def stock(folder: Path, kind: Quantization) -> Any:  # noqa: ANN401 - the class depends on the checkpoint
    """Load it as transformers does."""
    transformers_logging.disable_progress_bar()
    packed = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
    )
    quantization = packed if kind is Quantization.NF4 else None
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype="auto", local_files_only=True, quantization_config=quantization
    ).eval()


def step_bytes(model: torch.nn.Module, context: int) -> int:
    """Count what one token reads: every matrix once, the scales of packed ones, and the cache."""
    weights = sum(parameter.nbytes for parameter in model.parameters())
    states = (getattr(getattr(module, "weight", None), "quant_state", None) for module in model.modules())
    scales: int = sum(state.absmax.nbytes for state in states if state is not None)
    return weights + scales + 2 * 2 * LAYERS * ONE_B["num_key_value_heads"] * ONE_B["head_dim"] * context


def states(context: int) -> torch.Tensor:
    """Keys or values of one layer."""
    generator = torch.Generator().manual_seed(1)
    shape = (1, ONE_B["num_key_value_heads"], context, ONE_B["head_dim"])
    return torch.randn(shape, generator=generator).to(torch.bfloat16)


def fill(runner: Runner, context: int) -> None:
    """Put a context into a runner's cache."""
    runner.kv.drop()
    for layer in runner.kv.cache.layers:
        layer.update(states(context), states(context))
    runner.kv.extend([TOKEN] * context)


def stepper(model: Any, context: int) -> Callable[[], object]:  # noqa: ANN401 - likewise
    """A step of transformers behind the same context."""
    cache = DynamicCache(config=model.config)
    for index in range(LAYERS):
        cache.update(states(context), states(context), index)
    ids = torch.tensor([[TOKEN]])
    return lambda: model(input_ids=ids, past_key_values=cache, use_cache=True)


def seconds(step: Callable[[], object]) -> float:
    """The median of some steps."""
    taken = []
    for _ in range(STEPS):
        began = time.perf_counter()
        step()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def probe(kernels: Kernels, memory: torch.Tensor) -> float:
    """Bytes per second of reading."""
    began = time.perf_counter()
    kernels.read(memory)
    return memory.nbytes / (time.perf_counter() - began)


@torch.inference_mode()
def blocks(
    runner: Runner,
    model: Any,  # noqa: ANN401 - likewise
    context: int,
    count: int,
    peer: Peer,
) -> Iterator[Block]:
    """Measure in turns."""
    kernels = Foundry().kernels(lambda: None)
    if not isinstance(kernels, Kernels):
        raise SystemExit(kernels.value)
    memory = torch.ones(PROBE_BYTES // 4)
    fill(runner, context)
    theirs_step = stepper(model, context)
    peer.seconds("fill", context)
    for _ in range(count):
        first = probe(kernels, memory)
        ours = seconds(lambda: runner.feed([TOKEN]))
        second = probe(kernels, memory)
        theirs = seconds(theirs_step)
        third = probe(kernels, memory)
        yield Block(ours, (first + second) / 2, theirs, (second + third) / 2, peer.seconds("decode", STEPS))


def figures(
    name: str, size: int, measured: list[Block], target: float, peer_target: float
) -> Iterator[dict[str, Any]]:
    """Reduce blocks to their medians."""
    yield _figure(f"{name}: ours / memory", [size / b.ours / b.ours_probe for b in measured], target)
    yield _figure(f"{name}: transformers / memory", [size / b.theirs / b.theirs_probe for b in measured])
    yield _figure(f"{name}: ours, ms a token", [1e3 * block.ours for block in measured])
    yield _figure(f"{name}: transformers, ms a token", [1e3 * block.theirs for block in measured])
    yield _figure(f"{name}: memory, GB/s", [block.ours_probe / 1e9 for block in measured])
    if any(block.peer for block in measured):
        yield _figure(f"{name}: llama.cpp, ms a token", [1e3 * block.peer for block in measured])
        yield _figure(f"{name}: ours, times llama.cpp", [b.peer / b.ours for b in measured], peer_target)


def prefills(runner: Runner, label: str, count: int, peer: Peer) -> Iterator[dict[str, Any]]:
    """Prompts, computed by both in turns: how many times as fast ours is."""
    for tokens in PROMPTS if peer.seconds("fill", CONTEXTS[0]) else ():
        ratios = []
        for _ in range(count):
            runner.kv.drop()
            began, done = time.perf_counter(), 0
            while done < tokens:
                size = runner.chunk_size(tokens - done)
                runner.prefill_chunk([TOKEN + n for n in range(size)])
                done += size
            ours = time.perf_counter() - began
            ratios.append(peer.seconds("fill", tokens) / ours)
        yield _figure(f"{label}: prompt of {tokens}, times llama.cpp", ratios, 1.0)


def _figure(name: str, samples: list[float], target: float | None = None) -> dict[str, Any]:
    spread = {"least": round(min(samples), 3), "most": round(max(samples), 3)}
    return {"name": name, "median": round(statistics.median(samples), 3), **spread, "target": target}


def measure(folder: Path, kind: Quantization, count: int, python: Path | None) -> Iterator[dict[str, Any]]:
    """All figures of one way to store the weights."""
    peer = Peer(python, kind, folder)
    backend, runner = loaded(folder, kind)
    model = stock(folder, kind)
    stepper(model, 1)()  # packs what is packed at first use
    stored = "bf16" if kind is Quantization.NONE else kind.value
    for context, peer_target in zip(CONTEXTS, PEER_TARGETS[kind], strict=True):
        measured = list(blocks(runner, model, context, count, peer))
        label = f"{stored} at {context}"
        yield from figures(label, step_bytes(model, context), measured, TARGETS[kind], peer_target)
    yield from prefills(runner, stored, count, peer)
    peer.close()
    backend.unload()


def main() -> None:
    """Measure, print the table and then the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="keeps the model between runs")
    parser.add_argument("--blocks", type=int, default=7)
    parser.add_argument("--llama-cpp", type=Path, metavar="PYTHON", help="that has llama-cpp-python and gguf")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vramble-bench-") as parent:
        folder = asked.folder or Path(parent) / "random"
        if not list(folder.glob("*.safetensors")):
            make("llama_large", LAYERS, torch.bfloat16, folder, **ONE_B)
        found = [
            figure for kind in TARGETS for figure in measure(folder, kind, asked.blocks, asked.llama_cpp)
        ]
    for figure in found:
        spread = f"{figure['least']:8.3f} ..{figure['most']:8.3f}"
        print(f"{figure['name']:36}{figure['median']:8.3f}   {spread}   target {figure['target'] or '-'}")
    print(json.dumps({"bench": "native", "blocks": asked.blocks, "figures": found}))


if __name__ == "__main__":
    main()
