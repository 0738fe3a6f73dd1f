"""Host time per token, lag of the screen, and how soon a cancel is obeyed: `python -m bench.host`.

P12, P13 and P14 on a random-weight model of at least 400 MB (so that no cache holds it) and on the guide.
Host time is the wall time of a decode step outside the call of the model; the limit beside it is the time
inside that call, in the same run.
"""

from __future__ import annotations

import json
import queue
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import LlamaConfig, PreTrainedTokenizerFast

from engine import EngineProcess
from engine.commands import Generate, LoadModel
from engine.events import (
    AnyEvent,
    Failed,
    LoadProgress,
    ModelLoaded,
    PrefillProgress,
    TextDelta,
    TurnFinished,
)
from engine.guide import FOLDER
from engine.hf.backend import HFBackend
from engine.hf.detokenize import Detokenizer
from engine.hf.ways import StepDecoder
from engine.values import ChatMessage, FinishReason, LoadStage, ModelRef, Placement, Role, SamplingParams
from tests.tiny_models import make_tokenizer

REPEATS = 5
SEED = 1
PATIENCE = 60.0
STEPS = 24
WINDOW = 2048
VOCABULARY = 32_000
MB = 1_000_000
GREEDY = SamplingParams(temperature=0.0, max_new_tokens=STEPS)
ENDLESS = SamplingParams(temperature=1.0, seed=1, max_new_tokens=1000)
PROMPT = "Why is prefill faster than decode? "
DECODE_GRACE, PREFILL_LIMIT, LOAD_LIMIT = 0.020, 0.200, 0.250
HOST_LIMIT, TEXT_LIMIT = 100e-6, 5e-6
LAG_LIMIT, LONGEST_LAG = 0.016, 0.050


class Figure(NamedTuple):
    """One measured quantity, in seconds, beside its target.

    Attributes:
        name: what was measured.
        seconds: median.
        target: no more than this.
        worst: the largest.
    """

    name: str
    seconds: float
    target: float
    worst: float


def figure(name: str, samples: list[float], target: float) -> Figure:
    """Reduce samples to their median and their worst."""
    return Figure(name, statistics.median(samples), target, max(samples))


def make_model(folder: Path) -> Path:
    """Write a random llama of 0.45 GB in bfloat16; the weights are drawn once and shared by the layers."""
    tokenizer = wide_tokenizer()
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=10,
        num_attention_heads=16,
        num_key_value_heads=4,
        max_position_embeddings=WINDOW,
        eos_token_id=tokenizer.eos_token_id,
        architectures=["LlamaForCausalLM"],
        dtype="bfloat16",
    )
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    save_file(dict(_tensors(config)), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def wide_tokenizer() -> PreTrainedTokenizerFast:
    """The tests' tokenizer, filled up with words, so that every random id has a text."""
    tokenizer = make_tokenizer()
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = backend["model"]["vocab"]
    vocabulary |= {f"w{index}": index for index in range(len(tokenizer), VOCABULARY)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(backend)),
        eos_token="<|im_end|>",
        chat_template=tokenizer.chat_template,
    )


def _tensors(config: LlamaConfig) -> Iterator[tuple[str, torch.Tensor]]:
    wide, narrow = config.hidden_size, config.hidden_size // 4
    shapes = {
        "self_attn.q_proj": (wide, wide),
        "self_attn.k_proj": (narrow, wide),
        "self_attn.v_proj": (narrow, wide),
        "self_attn.o_proj": (wide, wide),
        "mlp.gate_proj": (config.intermediate_size, wide),
        "mlp.up_proj": (config.intermediate_size, wide),
        "mlp.down_proj": (wide, config.intermediate_size),
    }
    drawn = {name: torch.randn(shape, dtype=torch.bfloat16) * 0.02 for name, shape in shapes.items()}
    for layer in range(config.num_hidden_layers):
        for name, weight in drawn.items():
            yield f"model.layers.{layer}.{name}.weight", weight.clone()
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield f"model.layers.{layer}.{norm}.weight", torch.ones(wide, dtype=torch.bfloat16)
    yield "model.norm.weight", torch.ones(wide, dtype=torch.bfloat16)
    for name in ("model.embed_tokens", "lm_head"):
        yield f"{name}.weight", torch.randn((config.vocab_size, wide), dtype=torch.bfloat16) * 0.02


def label(folder: Path) -> str:
    """What the table calls a model."""
    return "guide" if folder == FOLDER else folder.name


def never() -> bool:
    """Go on."""
    return False


def load_command(folder: Path, turn_id: int = 0) -> LoadModel:
    """Everything in RAM."""
    model = ModelRef(name=folder.name, folder=folder)
    return LoadModel(turn_id=turn_id, model=model, placement=Placement(context_window=WINDOW))


def generate_command(text: str, sampling: SamplingParams, turn_id: int = 0) -> Generate:
    """One question without a history."""
    message = ChatMessage(role=Role.USER, content=text)
    return Generate(turn_id=turn_id, messages=(message,), sampling=sampling)


class TimedModel:
    """A model whose calls are timed."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - the class depends on the checkpoint
        """Wrap the model."""
        self._model = model
        self.spent = 0.0

    def __call__(self, **arguments: object) -> Any:  # noqa: ANN401 - likewise
        """Compute, and count the seconds."""
        began = time.perf_counter()
        output = self._model(**arguments)
        self.spent += time.perf_counter() - began
        return output


class TimedDecoder:
    """A decoder of whole steps whose calls count as the model's."""

    def __init__(self, decoder: StepDecoder, model: TimedModel) -> None:
        """Wrap the decoder."""
        self._decoder = decoder
        self._model = model
        self.most_tokens = decoder.most_tokens
        self.cancel = decoder.cancel

    def feed(self, *arguments: Any) -> torch.Tensor | None:  # noqa: ANN401 - a decoder's
        """Compute, and count the seconds."""
        began = time.perf_counter()
        logits = self._decoder.feed(*arguments)
        self._model.spent += time.perf_counter() - began
        return logits


def host_time(folder: Path) -> Iterator[Figure]:
    """P12: the time of a decode step that is not the model's, and of the text path alone."""
    backend = HFBackend()
    backend.load(load_command(folder), lambda _: None, never)
    loaded = backend._loaded
    if loaded is None:
        raise SystemExit("The model did not load.")
    timer = TimedModel(loaded.runner._model)
    vars(loaded.runner)["_model"] = timer
    if loaded.runner.decoder is not None:
        vars(loaded.runner)["decoder"] = TimedDecoder(loaded.runner.decoder, timer)
    rounds = [_decode_round(backend, timer) for _ in range(REPEATS)]
    name = label(folder)
    yield figure(f"{name}: host time per token", [host for host, _ in rounds], HOST_LIMIT)
    yield figure(f"{name}: forward per token (the limit)", [forward for _, forward in rounds], float("inf"))
    yield figure(f"{name}: text path per token", [_text_path(loaded.tokenizer) for _ in rounds], TEXT_LIMIT)
    backend.unload()


def _decode_round(backend: HFBackend, timer: TimedModel) -> tuple[float, float]:
    """Return the seconds per token outside and inside the forward, after the first token."""
    marks = [
        (time.perf_counter(), timer.spent, event.completion_tokens)
        for event in backend.generate(generate_command(PROMPT, GREEDY), never)
        if isinstance(event, TextDelta)
    ]
    (began, before, first), (ended, after, last) = marks[0], marks[-1]
    inside = (after - before) / (last - first)
    return (ended - began) / (last - first) - inside, inside


def _text_path(tokenizer: Any) -> float:  # noqa: ANN401 - the class depends on the checkpoint
    token_ids = tokenizer(200 * PROMPT)["input_ids"]
    detokenizer = Detokenizer(tokenizer)
    began = time.perf_counter()
    for token_id in token_ids:
        detokenizer.add(token_id)
    return (time.perf_counter() - began) / len(token_ids)


class Client:
    """One engine process, and the times of its answers."""

    def __init__(self) -> None:
        """Start it."""
        self._events: queue.Queue[tuple[float, AnyEvent]] = queue.Queue()
        self._turn_id = 0
        self._random = random.Random(SEED)
        self._engine = EngineProcess(lambda event: self._events.put((time.perf_counter(), event)))
        self._engine.start()

    def load(self, folder: Path) -> None:
        """Load and wait."""
        self._turn_id += 1
        self._engine.submit(load_command(folder, self._turn_id))
        self._wait(lambda event: isinstance(event, ModelLoaded))

    def cancel_load(self, folder: Path, stage: LoadStage) -> float:
        """Cancel a load when it enters a stage; seconds until it has ended."""
        self._turn_id += 1
        self._engine.submit(load_command(folder, self._turn_id))
        self._wait(lambda event: isinstance(event, LoadProgress) and event.stage is stage)
        seconds, _ = self._cancel(Failed)
        return seconds

    def cancel_turn(self, text: str, kind: type[AnyEvent], within: float) -> float:
        """Cancel a turn at a random moment after its first event of a kind; seconds until it has ended.

        A turn that has ended of itself by then is asked again, and cancelled sooner.
        """
        while True:
            self._turn_id += 1
            self._engine.submit(generate_command(text, ENDLESS, self._turn_id))
            self._wait(lambda event: isinstance(event, kind))
            time.sleep(self._random.uniform(0.0, within))
            seconds, ended = self._cancel(TurnFinished)
            if isinstance(ended, TurnFinished) and ended.finish_reason is FinishReason.CANCELLED:
                return seconds
            within /= 4

    def close(self) -> None:
        """End the process."""
        self._engine.close()

    def _cancel(self, end: type[AnyEvent]) -> tuple[float, AnyEvent]:
        began = time.perf_counter()
        self._engine.cancel(self._turn_id)
        at, event = self._wait(lambda event: isinstance(event, end))
        return at - began, event

    def _wait(self, wanted: Callable[[AnyEvent], bool]) -> tuple[float, AnyEvent]:
        """Return the wanted event of the command that runs, and when it arrived."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            at, event = self._events.get(timeout=PATIENCE)
            if event.turn_id == self._turn_id and wanted(event):
                return at, event
            if isinstance(event, Failed) and event.turn_id == self._turn_id:
                raise SystemExit(event.message)
        raise SystemExit("The engine did not answer.")


def cancels(folder: Path, step_seconds: float) -> Iterator[Figure]:
    """P14: from the cancel to the event that ends the command, through the engine process."""
    client, name = Client(), label(folder)
    loads = [
        client.cancel_load(folder, stage)
        for _ in range(REPEATS)
        for stage in (LoadStage.READ, LoadStage.PLACE)
    ]
    yield figure(f"{name}: cancel a load", loads, LOAD_LIMIT)
    client.load(folder)
    decodes = [client.cancel_turn(PROMPT, TextDelta, 3 * step_seconds) for _ in range(REPEATS)]
    yield figure(f"{name}: cancel in decode", decodes, step_seconds + DECODE_GRACE)
    questions = [f"{number} " + 50 * PROMPT for number in range(REPEATS)]
    prefills = [client.cancel_turn(question, PrefillProgress, PREFILL_LIMIT) for question in questions]
    yield figure(f"{name}: cancel in prefill", prefills, PREFILL_LIMIT)
    client.close()


def screen_lags(folder: Path) -> Iterator[Figure]:
    """P13: the screen's loop while the model is loaded and while it answers; its process has no torch."""
    runs = [_lag_run(folder) for _ in range(REPEATS)]
    for phase in ("machine", "loading", "generating"):
        lags = [run[phase] for run in runs]
        limit = float("inf") if phase == "machine" else LAG_LIMIT
        yield figure(f"{label(folder)}: screen lag p99, {phase}", [lag["p99"] for lag in lags], limit)
        longest = float("inf") if phase == "machine" else LONGEST_LAG
        yield figure(f"{label(folder)}: screen lag max, {phase}", [lag["max"] for lag in lags], longest)


def _lag_run(folder: Path) -> dict[str, dict[str, float]]:
    command = [sys.executable, "-m", "bench.lag", str(folder)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    figures: dict[str, dict[str, float]] = json.loads(printed.splitlines()[-1])
    return figures


def measure(folder: Path) -> Iterator[Figure]:
    """All figures of one model."""
    hosts = list(host_time(folder))
    yield from hosts
    yield from cancels(folder, hosts[1].seconds)
    yield from screen_lags(folder)


def main() -> None:
    """Measure, print the table and then the JSON line."""
    with tempfile.TemporaryDirectory(prefix="vramble-bench-") as parent:
        folder = Path(parent) / "random-0.4GB"
        folder.mkdir()
        size = (make_model(folder) / "model.safetensors").stat().st_size
        figures = list(measure(folder))
    figures += measure(FOLDER)
    _print_table(figures, size)
    entries = [entry._asdict() for entry in figures if entry.target != float("inf")]
    print(json.dumps({"bench": "engine", "figures": entries}))


def _print_table(figures: list[Figure], size: int) -> None:
    print(f"{'':44}{'median':>12}{'worst':>12}{'target':>12}   ({size / MB:.0f} MB of random weights)")
    for name, *seconds in figures:
        median, target, worst = (1e3 * value for value in seconds)
        print(f"{name:44}{median:9.3f} ms{worst:9.3f} ms{target:9.3f} ms  {_verdict(median, target)}")


def _verdict(seconds: float, target: float) -> str:
    return "" if target == float("inf") else f"{seconds / target:.2f} x"


if __name__ == "__main__":
    main()
