"""Host time per token, lag of the screen, and how soon a cancel is obeyed: `python -m bench.host`.

P12, P13 and P14 on a random-weight model of at least 400 MB (so that no cache holds it) and on the guide.
Host time is the wall time of a decode step outside the call of the model; the time inside that call stands
below it. The limits are what is allowed.
"""

from __future__ import annotations

import functools
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from bench.client import Client, generate_command, load_command, never
from bench.rows import Aim, Asked, Case, Measured, Rounds, Row, Sample, run
from bench.shapes import Shape, on_model
from engine.events import PrefillProgress, TextDelta
from engine.guide import FOLDER
from engine.hf.backend import HFBackend
from engine.hf.detokenize import Detokenizer
from engine.hf.ways import StepDecoder
from engine.values import LoadStage, SamplingParams

STEPS = 24
PROMPT = "Why is prefill faster than decode? "
GREEDY = SamplingParams(temperature=0.0, max_new_tokens=STEPS)
DECODE_GRACE, PREFILL_LIMIT, LOAD_LIMIT = 0.020, 0.200, 0.250
HOST_LIMIT, TEXT_LIMIT = 100e-6, 5e-6
LAG_LIMIT, LONGEST_LAG = 0.016, 0.050
MS = 1e3
Lags = dict[str, dict[str, float]]


def label(folder: Path) -> str:
    """What the table calls a model."""
    return "guide" if folder == FOLDER else "0.4 GB"


def within(part: str, name: str, measured: Measured[float], allowed: float) -> Row:
    """A time in seconds that may be no longer than what is allowed."""
    aim = Aim(part, name, "ms", 1.0, less_is_better=True)
    return aim.row(measured.each(lambda seconds: Sample(MS * seconds, MS * allowed)))


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


def host_rows(folder: Path, rounds: Rounds) -> Iterator[Row]:
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
    measured, name = rounds.of(lambda: _decode_round(backend, timer)), label(folder)
    hosts = Measured([host for host, _ in measured.samples], measured.disturbed)
    yield within("P12", f"{name}, host time per token", hosts, HOST_LIMIT)
    aim = Aim("P12", f"{name}, the forward beside it", "ms")
    yield aim.row(measured.each(lambda pair: Sample(MS * pair[1])))
    texts = rounds.of(lambda: _text_path(loaded.tokenizer))
    yield within("P12", f"{name}, text path per token", texts, TEXT_LIMIT)
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


def cancel_rows(folder: Path, rounds: Rounds) -> Iterator[Row]:
    """P14: from the cancel to the event that ends the command, through the engine process."""
    client, name = Client(), label(folder)
    for stage in (LoadStage.READ, LoadStage.PLACE):
        loads = rounds.of(functools.partial(client.cancel_load, folder, stage))
        yield within("P14", f"{name}, cancel a load ({stage.value})", loads, LOAD_LIMIT)
    client.load(folder)
    step = client.step_seconds(PROMPT)
    decodes = rounds.of(lambda: client.cancel_turn(PROMPT, TextDelta, 3 * step))
    yield within("P14", f"{name}, cancel in decode", decodes, step + DECODE_GRACE)
    numbers = itertools.count()
    prefills = rounds.of(
        lambda: client.cancel_turn(f"{next(numbers)} " + 50 * PROMPT, PrefillProgress, PREFILL_LIMIT)
    )
    yield within("P14", f"{name}, cancel in prefill", prefills, PREFILL_LIMIT)
    client.close()


def lag_rows(folder: Path, rounds: Rounds) -> Iterator[Row]:
    """P13: the screen's loop while the model is loaded and while it answers; its process has no torch."""
    measured = rounds.of(lambda: _lag_run(folder))
    for phase in ("loading", "generating"):
        for figure, allowed in (("p99", LAG_LIMIT), ("max", LONGEST_LAG)):
            aim = Aim("P13", f"{label(folder)}, lag {figure}, {phase}", "ms", 1.0, "idle loop", None, True)
            yield aim.row(measured.each(functools.partial(_lag, phase, figure, allowed)))


def _lag(phase: str, figure: str, allowed: float, lags: Lags) -> Sample:
    """One lag; the same loop before anything was started stands beside it."""
    return Sample(MS * lags[phase][figure], MS * allowed, MS * lags["machine"][figure])


def _lag_run(folder: Path) -> Lags:
    command = [sys.executable, "-m", "bench.lag", str(folder)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lags: Lags = json.loads(printed.splitlines()[-1])
    return lags


def cases(asked: Asked) -> Iterator[Case]:
    """All figures of the random model, then of the guide."""
    parts = (("P12", host_rows), ("P14", cancel_rows), ("P13", lag_rows))
    for part, rows in parts:
        yield Case(f"{part}:random", on_model(asked, Shape.SMALL, rows))
    for part, rows in () if asked.quick else parts:
        yield Case(f"{part}:guide", functools.partial(rows, FOLDER))


if __name__ == "__main__":
    run("host", __doc__, cases)
