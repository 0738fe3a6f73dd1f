"""Decode and prompts on the CPU, beside transformers and the memory: `python -m bench.native [folder]`.

P5. A random-weight llama in the shape of 1B, as bf16 and as nf4, at 64 and at 2,048 tokens of context, and a
mixture of experts. In each round: a reading of a gigabyte by all threads, some steps of ours, a reading, some
of transformers, a reading; the limit is the mean of the readings around ours. Then prompts of 512 and 2,048
tokens, ours and transformers' in turns. With `--llama-cpp PYTHON`, an interpreter that has llama-cpp-python
and gguf, llama.cpp takes its turn in each round, with the same shape as bf16 and as Q4_0. With
VRAMBLE_KERNELS=off, what torch alone reaches beside transformers. Prints a table, then one JSON line.
"""

from __future__ import annotations

import functools
import itertools
import json
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, DynamicCache
from transformers.utils import logging as transformers_logging

from bench.client import never
from bench.rows import Aim, Asked, Case, Measured, Rounds, Row, Sample, run
from bench.shapes import Shape, on_model
from engine.commands import LoadModel
from engine.compilers import kernels_are_off
from engine.hf.backend import HFBackend
from engine.hf.decode import Runner
from engine.hf.measure import ram_bandwidth
from engine.hf.native.foundry import Foundry
from engine.hf.native.library import Kernels
from engine.values import ModelRef, Placement, Quantization

CONTEXTS = (64, 2048)
STEPS = 4
TOKEN = 7
PROBE_BYTES = 1 << 30
PROMPTS = (512, 2048)
STORED = {Quantization.NONE: "bf16", Quantization.NF4: "nf4"}
PEER_NAMES = {Quantization.NONE: "BF16", Quantization.NF4: "Q4_0"}
PEER_TARGETS = {Quantization.NONE: (0.95, 0.95), Quantization.NF4: (0.95, 1.2)}
TARGETS = {Quantization.NONE: 0.85, Quantization.NF4: 0.75}
PLAIN_TARGETS = (1.0, 1.4)
EXPERT_TARGETS = (1.0, 1.0)
PEER_PROMPT_TARGET = 1.0


class Block(NamedTuple):
    """One round.

    Attributes:
        ours: seconds a token.
        memory: bytes per second of the readings around ours.
        theirs: seconds a token of transformers.
        peer: seconds a token of llama.cpp; 0 without it.
    """

    ours: float
    memory: float
    theirs: float
    peer: float


class Peer:
    """llama.cpp in a process of its own; without an interpreter for it, nothing is measured."""

    def __init__(self, python: Path | None, kind: Quantization, folder: Path) -> None:
        """Start it with weights of the same kind."""
        script = Path(__file__).with_name("llama_cpp.py")
        command = [python or "", "-P", script, PEER_NAMES[kind], folder]
        self._process = python and subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
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


class Pair:
    """One model, loaded by us and by transformers."""

    def __init__(self, folder: Path, kind: Quantization) -> None:
        """Load it as the product does, and as transformers does."""
        self.kind = kind
        self.backend = HFBackend()
        placement = Placement(context_window=2 * CONTEXTS[-1], quantization=kind)
        model = ModelRef(name=folder.name, folder=folder)
        self.backend.load(LoadModel(model=model, placement=placement), lambda _: None, never)
        if self.backend._loaded is None:
            raise SystemExit("The model did not load.")
        self.runner: Runner = self.backend._loaded.runner
        self.is_ours = self.runner.decoder is not None
        """Kernels of ours compute its tokens."""
        self.model = stock(folder, kind)
        stepper(self.model, 1)()  # packs what is packed at first use

    def close(self) -> None:
        """Drop both."""
        self.backend.unload()
        del self.model


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


def step_bytes(model: Any, context: int) -> int:  # noqa: ANN401 - the class is not known
    """Count what one token reads: its matrices once, the scales of packed ones, and the cache."""
    weights = sum(_read_bytes(name, parameter, model.config) for name, parameter in model.named_parameters())
    packed = (getattr(getattr(module, "weight", None), "quant_state", None) for module in model.modules())
    scales: int = sum(state.absmax.nbytes for state in packed if state is not None)
    return int(weights + scales + 2 * model.config.num_hidden_layers * states(model.config, context).nbytes)


def _read_bytes(name: str, parameter: torch.Tensor, config: Any) -> float:  # noqa: ANN401 - a model's
    """Of a parameter: of experts those that a token is sent to, and nothing of an embedding alone."""
    if ".experts." in name:
        experts = getattr(config, "num_local_experts", None) or config.num_experts
        return float(parameter.nbytes * config.num_experts_per_tok / experts)
    is_looked_up = "embed_tokens" in name and not config.tie_word_embeddings
    return 0.0 if is_looked_up else float(parameter.nbytes)


@functools.lru_cache(maxsize=1)
def _states(heads: int, width: int, context: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn((1, heads, context, width), generator=generator).to(torch.bfloat16)


def states(config: Any, context: int) -> torch.Tensor:  # noqa: ANN401 - a model's
    """Keys or values of one layer."""
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return _states(config.num_key_value_heads, width, context)


def fill(runner: Runner, config: object, context: int) -> None:
    """Put a context into a runner's cache."""
    runner.kv.drop()
    for layer in runner.kv.cache.layers:
        layer.update(states(config, context), states(config, context))
    runner.kv.extend([TOKEN] * context)


def stepper(model: Any, context: int) -> Callable[[], object]:  # noqa: ANN401 - the class is not known
    """A step of transformers behind the same context."""
    cache = DynamicCache(config=model.config)
    for index in range(model.config.num_hidden_layers):
        cache.update(states(model.config, context), states(model.config, context), index)
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


def memory_probe() -> Callable[[], float]:
    """Return what reads memory with all threads, and says how many bytes per second that were."""
    memory = torch.ones(PROBE_BYTES, dtype=torch.uint8)
    kernels = Foundry().kernels(lambda: None)
    if not isinstance(kernels, Kernels):
        return lambda: ram_bandwidth(memory)
    floats = memory.view(torch.float32)

    def read() -> float:
        began = time.perf_counter()
        kernels.read(floats)
        return memory.nbytes / (time.perf_counter() - began)

    return read


def blocks(pair: Pair, context: int, rounds: Rounds, peer: Peer) -> Measured[Block]:
    """Measure steps in turns, behind a context; who comes first after the pause changes with each round."""
    probe, ours_first = memory_probe(), itertools.cycle((True, False))
    fill(pair.runner, pair.model.config, context)
    theirs_step = stepper(pair.model, context)
    peer.seconds("fill", context)

    def ours() -> tuple[float, float]:
        first = probe()
        taken = seconds(lambda: pair.runner.feed([TOKEN]))
        return taken, (first + probe()) / 2

    @torch.inference_mode()
    def block() -> Block:
        if next(ours_first):
            return Block(*ours(), seconds(theirs_step), peer.seconds("decode", STEPS))
        theirs, peers = seconds(theirs_step), peer.seconds("decode", STEPS)
        return Block(*ours(), theirs, peers)

    return rounds.of(block)


def decode_row(aim: Aim, measured: Measured[Block], size: int) -> Row:
    """Tokens per second beside what the memory allows, and transformers' own; `size` bytes a token."""
    return aim.row(measured.each(lambda block: Sample(1 / block.ours, block.memory / size, 1 / block.theirs)))


def rival_row(aim: Aim, measured: Measured[Block], tokens: int = 1) -> Row:
    """Tokens per second beside llama.cpp's."""
    return aim.row(measured.each(lambda block: Sample(tokens / block.ours, None, tokens / block.peer)))


def decode_rows(pair: Pair, rounds: Rounds, peer: Peer) -> Iterator[Row]:
    """Tokens per second at both contexts."""
    for context, peer_target in zip(CONTEXTS, PEER_TARGETS[pair.kind], strict=True):
        measured, name = blocks(pair, context, rounds, peer), f"{STORED[pair.kind]} decode at {context:,}"
        aim = Aim("P5", name, "tok/s", TARGETS[pair.kind], "transformers")
        yield decode_row(aim, measured, step_bytes(pair.model, context))
        if measured.samples[0].peer:
            yield rival_row(Aim("P5", name, "tok/s", None, "llama.cpp", peer_target), measured)


def prefill_seconds(runner: Runner, tokens: int) -> float:
    """Compute a prompt as a turn does."""
    runner.kv.drop()
    began, done = time.perf_counter(), 0
    while done < tokens:
        size = runner.chunk_size(tokens - done)
        runner.prefill_chunk([TOKEN + n for n in range(size)])
        done += size
    return time.perf_counter() - began


@torch.inference_mode()
def their_prefill_seconds(model: Any, tokens: int) -> float:  # noqa: ANN401 - the class is not known
    """Compute a prompt as `generate` does: at once."""
    ids = torch.arange(TOKEN, TOKEN + tokens).unsqueeze(0)
    began = time.perf_counter()
    model(input_ids=ids, past_key_values=DynamicCache(config=model.config), use_cache=True, logits_to_keep=1)
    return time.perf_counter() - began


def prompt_rows(pair: Pair, rounds: Rounds, peer: Peer) -> Iterator[Row]:
    """Prompts, in tokens per second, by all in turns."""
    for tokens in PROMPTS:
        measured = rounds.of(functools.partial(_prompt, pair, tokens, peer))
        name = f"{STORED[pair.kind]} prompt of {tokens:,}"
        if measured.samples[0].theirs:
            yield _prompt_row(Aim("P5", name, "tok/s", None, "transformers"), measured, tokens)
        if measured.samples[0].peer:
            aim = Aim("P5", name, "tok/s", None, "llama.cpp", PEER_PROMPT_TARGET)
            yield rival_row(aim, measured, tokens)


def _prompt_row(aim: Aim, measured: Measured[Block], tokens: int) -> Row:
    return aim.row(measured.each(lambda block: Sample(tokens / block.ours, None, tokens / block.theirs)))


def _prompt(pair: Pair, tokens: int, peer: Peer) -> Block:
    """One prompt; packed weights only beside llama.cpp: transformers unpacks them anew for each."""
    is_beside = pair.kind is Quantization.NONE
    theirs = their_prefill_seconds(pair.model, tokens) if is_beside else 0.0
    return Block(prefill_seconds(pair.runner, tokens), 0.0, theirs, peer.seconds("fill", tokens))


def dense(kind: Quantization, asked: Asked, folder: Path, rounds: Rounds) -> Iterator[Row]:
    """All rows of one way to store the weights."""
    peer, pair = Peer(asked.llama_cpp, kind, asked.folder), Pair(folder, kind)
    if not pair.is_ours:
        raise SystemExit("The kernels do not serve the model.")
    yield from decode_rows(pair, rounds, peer)
    if kind is Quantization.NONE or asked.llama_cpp:
        yield from prompt_rows(pair, rounds, peer)
    peer.close()
    pair.close()


def beside_transformers(
    name: str, targets: tuple[float, float], folder: Path, rounds: Rounds
) -> Iterator[Row]:
    """Decode in bf16 that only has to be as fast, or so many times as fast, as transformers."""
    nobody, pair = Peer(None, Quantization.NONE, folder), Pair(folder, Quantization.NONE)
    for context, target in zip(CONTEXTS, targets, strict=True):
        measured = blocks(pair, context, rounds, nobody)
        aim = Aim("P5", f"{name}, bf16 decode at {context:,}", "tok/s", None, "transformers", target)
        yield decode_row(aim, measured, step_bytes(pair.model, context))
    pair.close()


def cases(asked: Asked) -> Iterator[Case]:
    """Everything, or with VRAMBLE_KERNELS=off only what torch computes."""
    if kernels_are_off():
        rows = functools.partial(beside_transformers, "no kernels", PLAIN_TARGETS)
        yield Case("P5:no-kernels", on_model(asked, Shape.ONE_B, rows))
        return
    for kind in TARGETS:
        rows = functools.partial(dense, kind, asked)
        yield Case(f"P5:{STORED[kind]}", on_model(asked, Shape.ONE_B, rows))
    rows = functools.partial(beside_transformers, "experts", EXPERT_TARGETS)
    yield Case("P5:experts", on_model(asked, Shape.EXPERTS, rows))


if __name__ == "__main__":
    run("native", __doc__, cases)
