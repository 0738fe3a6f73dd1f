"""Measuring this machine: every figure is there, it can be left, and it is kept."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
import torch

from engine.backend import Cancelled
from engine.errors import LoadCancelled
from engine.hf import measure_clock, measure_disk, measure_linear
from engine.hf.backend import HFBackend
from engine.hf.measure_attention import attention_speed
from engine.hf.measure_steps import SmallSteps
from engine.plan.limits import kept_limits, typical_limits
from engine.values import BudgetRequest, SamplingParams, Tier
from tests import tiny_models
from tests.engine.hf.talk import After, Talk, never

DTYPES = {"bfloat16", "float16", "float32"}
PACKED = {"int8", "nf4"}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less memory and smaller layers, since what they tell is not looked at."""
    monkeypatch.setattr(measure_linear, "SMALL", (64, 64))
    monkeypatch.setattr(measure_linear, "LARGE", (256, 64))
    monkeypatch.setattr("engine.hf.measure.CYCLED_BYTES", 4 << 20)
    monkeypatch.setattr(measure_linear, "PACKED_BYTES", 1 << 18)
    monkeypatch.setattr(measure_disk, "FILE_BYTES", 64 << 20)


@pytest.mark.usefixtures("small")
def test_a_measurement_tells_every_figure_and_keeps_them_and_no_other_file(own_cache: Path) -> None:
    told = HFBackend().measure_limits(never).limits
    assert told.measured_at > 0
    assert set(told.linear_bandwidth) == DTYPES | PACKED | {f"{dtype} columns" for dtype in DTYPES}
    assert set(told.attention_flops) == set(told.eager_bandwidth) == DTYPES
    assert set(told.quantize_bandwidth) == PACKED
    assert told.ram_runtime_bytes > 100 << 20
    assert kept_limits() == told  # only sound figures are read again
    assert [path.suffix for path in (own_cache / "cache").iterdir()] == [".json"]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("steps", [0, 3, 8])
def test_a_measurement_is_left_between_two_steps(own_cache: Path, steps: int) -> None:
    cancelled: Cancelled = After(steps)
    with pytest.raises(LoadCancelled):
        HFBackend().measure_limits(cancelled)
    assert kept_limits() is None
    assert not [path for path in own_cache.rglob("*") if path.is_file()]


@pytest.mark.usefixtures("small")
def test_a_model_that_is_loaded_goes_on_afterwards_with_its_threads() -> None:
    talk = Talk(tiny_models.checkpoint("llama"))
    before, threads = talk.ask("Why?").text, torch.get_num_threads()
    talk.backend.measure_limits(never)
    assert torch.get_num_threads() == threads
    talk.messages.clear()
    assert talk.ask("Why?").text == before


def test_the_quicker_samples_stand_for_a_call_that_nobody_disturbed() -> None:
    assert measure_clock.usual([1.0] * 5 + [100.0] * 5) == 1.0


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="this kernel tells no run delays")
def test_a_measurement_notices_that_others_use_its_core() -> None:
    cores = os.sched_getaffinity(0)
    core = min(cores)
    busy = f"import os\nos.sched_setaffinity(0, {{{core}}})\nprint(1, flush=True)\nwhile True: pass"
    os.sched_setaffinity(0, {core})
    with subprocess.Popen([sys.executable, "-c", busy], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None
            other.stdout.readline()
            waiting, end = measure_clock.Waiting(), time.perf_counter() + 0.5
            while time.perf_counter() < end:
                pass
            share = waiting.share()
        finally:
            other.kill()
            os.sched_setaffinity(0, cores)
    assert msgspec.structs.replace(typical_limits(), waited_share=share).was_disturbed
    assert not typical_limits().was_disturbed


def test_calls_stop_when_their_time_is_over() -> None:
    calls = []
    measure_clock.within(0.0, [lambda: calls.append(1)] * 100)
    assert len(calls) == 1


def test_attention_has_a_speed_in_every_dtype() -> None:
    assert all(speed > 0 for dtype in measure_linear.DTYPES for speed in attention_speed(dtype))


def test_an_operation_takes_more_than_nothing_and_less_than_a_step() -> None:
    assert 0 < SmallSteps(torch.device("cpu")).op_seconds() < 1e-2


def test_a_scratch_file_is_private_and_gone_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure_disk, "FILE_BYTES", 64 << 20)
    with measure_disk.scratch_file(tmp_path / "new") as path:
        assert os.stat(path).st_mode & 0o077 == 0
        assert path.stat().st_size == 64 << 20
    assert list((tmp_path / "new").iterdir()) == []


def test_a_planned_model_teaches_its_speed(own_cache: Path) -> None:
    talk = Talk(tiny_models.checkpoint("llama"), budgets=BudgetRequest(gpu=()))
    assert {layer.tier for layer in talk.loaded.placement.layers} == {Tier.CPU}
    talk.ask("Why?", SamplingParams(temperature=0.0, max_new_tokens=40))
    assert list((own_cache / "cache").glob("learned-*.json"))
