"""Rows compare round by round, and disturbed rounds are repeated."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from bench import rows
from bench.rows import Aim, Measured, Rounds, Sample, is_wanted, require_known, row_of


def test_a_speed_is_held_against_its_limit_and_its_peer_round_by_round() -> None:
    samples = [Sample(9.0, 10.0, 3.0), Sample(45.0, 50.0, 9.0), Sample(18.0, 20.0, 9.0)]
    row = Aim("P6", "disk", "GB/s", 0.9, "accelerate", 2.4).row(Measured(samples))
    assert (row.figure, row.share, row.times, row.verdict) == (18.0, 0.9, 3.0, "ok")


@pytest.mark.parametrize(("seconds", "verdict"), [(1.2, "ok"), (1.4, "MISSED")])
def test_a_time_may_be_no_longer_than_its_target_allows(seconds: float, verdict: str) -> None:
    aim = Aim("P11", "turn", "s", 1.3, "no reuse", 35.0, less_is_better=True)
    assert aim.row(Measured([Sample(seconds, 1.0, 60.0)])).verdict == verdict


def test_missing_the_peer_alone_is_missed() -> None:
    aim = Aim("P11", "turn", "s", 1.3, "no reuse", 35.0, less_is_better=True)
    row = aim.row(Measured([Sample(1.0, 1.0, 30.0)]))
    assert (row.times, row.verdict) == (30.0, "MISSED")


def test_a_row_without_targets_or_peers_has_no_verdict_and_survives_the_json() -> None:
    row = Aim("P8", "load", "s").row(Measured([Sample(2.0)], 1))
    assert (row.limit, row.share, row.peer, row.times, row.verdict) == (None, None, None, None, "")
    assert row_of(row.record()) == row
    assert "of 1 (1 disturbed)" in row.line()


class Neighbours:
    """Others who compute in some rounds."""

    def __init__(self, shares: Iterator[float]) -> None:
        self._shares = shares

    def share(self) -> float:
        return next(self._shares)


def with_neighbours(monkeypatch: pytest.MonkeyPatch, *shares: float) -> Rounds:
    busy = iter(shares)
    monkeypatch.setattr(rows, "Others", lambda: Neighbours(busy))
    monkeypatch.setattr("bench.quiet.MemoryProbe.now", lambda _: 1.0)
    monkeypatch.setattr("bench.quiet.MemoryProbe.is_near", lambda *_: True)
    return Rounds(2, 60.0)


def test_a_disturbed_round_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(9))
    measured = with_neighbours(monkeypatch, 0.5, 0.0, 0.0).of(lambda: next(numbers))
    assert measured == Measured([1, 2], 0)


def test_where_all_rounds_are_disturbed_there_still_are_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(9))
    measured = with_neighbours(monkeypatch, *[0.5] * 8).of(lambda: next(numbers))
    assert measured == Measured([0, 1], 2)


def test_a_case_that_others_disturb_leaves_time_for_those_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.0, *[31.0] * 20])
    monkeypatch.setattr(rows, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    watched = with_neighbours(monkeypatch, *[0.5] * 8)
    watched.begin(2)
    numbers = iter(range(9))
    assert watched.of(lambda: next(numbers)) == Measured([0, 1], 2)
    assert next(numbers) == 2
    assert not watched.time_is_up


@pytest.mark.parametrize(
    ("only", "wanted"),
    [((), True), (("P5",), True), (("P6", "P5:experts"), True), (("P5:nf4",), False), (("P",), False)],
)
def test_a_case_is_asked_for_by_its_name_or_its_part(only: tuple[str, ...], wanted: bool) -> None:
    assert is_wanted("P5:experts", only) is wanted


def test_a_wish_that_nothing_is_named_is_refused_with_all_names(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    require_known(parser, ("P5", "P6:plan"), ["P5:nf4", "P6:plan"])
    with pytest.raises(SystemExit):
        require_known(parser, ("P6:plan", "P5:moe"), ["P5:nf4", "P6:plan"])
    assert "P5:moe is none of P5:nf4, P6:plan" in capsys.readouterr().err
