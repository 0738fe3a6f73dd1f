"""The GPU benchmark runs whole on the CPU, and one section's failure is its own."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
import torch

from bench.gpu import Report, Section, main
from bench.gpu_rig import Figure, Rig, tiny_sizes

SHORT = ("resident", "resident_small", "streamed", "compiled")


def test_the_sections_that_need_no_second_process_run_on_the_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--tiny", *(word for name in SHORT for word in ("--only", name))]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["failures"] == {}
    assert {"P1", "P2", "P3", "P4", "P7", "P15"} <= {figure["target_id"] for figure in last["figures"]}
    assert all(figure["achieved"] > 0 for figure in last["figures"])


def test_a_failing_section_is_reported_and_the_next_still_runs(capsys: pytest.CaptureFixture[str]) -> None:
    def failing(_: Rig) -> Iterator[Figure]:
        yield Figure("P1", "one", 1.0, "x", 1.0, 0.5)
        raise ZeroDivisionError("nothing\nmore")

    def sound(_: Rig) -> Iterator[Figure]:
        yield Figure("P2", "two", 1.0, "x", 2.0, 1.0, most=True)

    rig = Rig(torch.device("cpu"), tiny_sizes())
    report = Report(time.monotonic() + 60)
    for section in (
        Section("failing", failing, 1.0),
        Section("sound", sound, 1.0),
        Section("long", sound, 1e6),
    ):
        report.run(section, rig)
    assert report.failures == {
        "failing": "ZeroDivisionError: nothing",
        "long": "left out: too little time is left",
    }
    assert [(figure.name, figure.holds) for figure in report.figures] == [("one", True), ("two", False)]
    assert json.loads(report.as_json(rig))["failures"] == report.failures
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_without_a_gpu_it_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([]) == 2
    assert "no GPU" in capsys.readouterr().err
