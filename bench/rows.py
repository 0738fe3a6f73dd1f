"""Figures beside their limits and their peers: how often they are measured, and how they are printed."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from bench.quiet import MemoryProbe, Others, wait_for_quiet

ROUNDS = 5
MOST_TRIES = 2
"""Times ROUNDS, when others disturb them."""
QUIET_SECONDS = 20.0
"""How long one round waits for others to stop."""
DISTURBED_SHARE = 0.10
"""Of all cores: interrupts for four gigabytes a second from the disk take some of it, too."""
T = TypeVar("T")


class Sample(NamedTuple):
    """One round.

    Attributes:
        ours: the figure.
        limit: what it is held against, in the same unit; None where there is none.
        peer: what another program took or reached, in the same unit; None likewise.
    """

    ours: float
    limit: float | None = None
    peer: float | None = None


class Measured(NamedTuple, Generic[T]):
    """What some rounds gave.

    Attributes:
        samples: one a round.
        disturbed: how many of them were measured while others computed.
    """

    samples: list[T]
    disturbed: int = 0

    def each(self, take: Callable[[T], Sample]) -> Measured[Sample]:
        """Return one quantity of each round."""
        return Measured([take(sample) for sample in self.samples], self.disturbed)


class Row(NamedTuple):
    """One line of the table; medians.

    Attributes:
        part: "P5".
        name: what was measured.
        unit: of the figure, the limit and the peer.
        figure: ours.
        least: of ours.
        most: of ours.
        limit: measured in the same rounds, or the most that is allowed.
        share: figure / limit, round by round.
        target: of the share.
        peer_name: whom the peer's figure is of.
        peer: the peer's figure.
        times: how many times as good as the peer's ours is, round by round.
        peer_target: of that.
        less_is_better: seconds or bytes: the share may be no more than its target.
        rounds: how many there were.
        disturbed: of those, with others computing meanwhile.
    """

    part: str
    name: str
    unit: str
    figure: float
    least: float
    most: float
    limit: float | None
    share: float | None
    target: float | None
    peer_name: str
    peer: float | None
    times: float | None
    peer_target: float | None
    less_is_better: bool
    rounds: int
    disturbed: int

    @property
    def verdict(self) -> str:
        """ok, MISSED, or nothing where the row has no target."""
        held = []
        if self.share is not None and self.target is not None:
            held += [self.share <= self.target if self.less_is_better else self.share >= self.target]
        if self.times is not None and self.peer_target is not None:
            held += [self.times >= self.peer_target]
        return ("ok" if all(held) else "MISSED") if held else ""

    def line(self) -> str:
        """The row as text."""
        sign = "<=" if self.less_is_better else ">="
        target = f"{sign}{self.target:5.2f}" if self.target is not None else ""
        wanted = f">={self.peer_target:5.2f}" if self.peer_target is not None else ""
        few = "" if self.rounds >= ROUNDS else f" of {self.rounds}"
        disturbed = f" ({self.disturbed} disturbed)" if self.disturbed else ""
        return (
            f"{self.part:4}{self.name:36}{self.figure:9.3f} {self.unit:9}{_number(self.limit, 9)}"
            f"{_number(self.share, 7, 2)} {target:8}{_number(self.peer, 9)} {self.peer_name:13}"
            f"{_number(self.times, 7, 2)} {wanted:8}{self.verdict:7}{few}{disturbed}"
        )

    def record(self) -> dict[str, Any]:
        """The row for the JSON line."""
        fields = {
            key: round(value, 4) if isinstance(value, float) else value
            for key, value in self._asdict().items()
        }
        return {**fields, "verdict": self.verdict}


HEADER = (
    f"{'':40}{'figure':>9} {'':9}{'limit':>9}{'share':>7} {'target':8}"
    f"{'peer':>9} {'':13}{'times':>7} {'target':8}"
)


def row_of(record: dict[str, Any]) -> Row:
    """Read what `record` made."""
    return Row(**{key: record[key] for key in Row._fields})


def _number(value: float | None, width: int, digits: int = 3) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:{width}.{digits}f}"


class Aim(NamedTuple):
    """What a row is about, before anything is measured; the fields are Row's."""

    part: str
    name: str
    unit: str
    target: float | None = None
    peer_name: str = ""
    peer_target: float | None = None
    less_is_better: bool = False

    def row(self, measured: Measured[Sample]) -> Row:
        """Reduce rounds to their medians."""
        samples = measured.samples
        figures = [sample.ours for sample in samples]
        return Row(
            **self._asdict(),
            figure=statistics.median(figures),
            least=min(figures),
            most=max(figures),
            limit=_median([sample.limit for sample in samples]),
            share=_median([sample.limit and sample.ours / sample.limit for sample in samples]),
            peer=_median([sample.peer for sample in samples]),
            times=_median([self._times(sample) for sample in samples]),
            rounds=len(samples),
            disturbed=measured.disturbed,
        )

    def _times(self, sample: Sample) -> float | None:
        if not sample.peer or not sample.ours:
            return None
        return sample.peer / sample.ours if self.less_is_better else sample.ours / sample.peer


def _median(values: list[float | None]) -> float | None:
    """Of those that were measured."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


class Rounds:
    """How often everything is measured: ROUNDS times undisturbed, as far as the time allows."""

    def __init__(self, wanted: int, seconds: float) -> None:
        """Begin to count.

        Args:
            wanted: rounds of each figure, however long they take.
            seconds: after which no round is repeated, and nobody is waited for.
        """
        self.wanted = wanted
        self._end = self._case_end = time.monotonic() + seconds
        self._memory = MemoryProbe()

    @property
    def is_quick(self) -> bool:
        """Only whether it runs."""
        return self.wanted < ROUNDS

    @property
    def time_is_up(self) -> bool:
        """Nothing more is begun."""
        return time.monotonic() >= self._end

    def begin(self, cases: int) -> None:
        """Begin the first of so many cases: it may wait and repeat for its part of the time that is left."""
        now = time.monotonic()
        self._case_end = now + max(0.0, self._end - now) / cases

    @property
    def _is_in_haste(self) -> bool:
        """Nobody is waited for, so that there is time for the cases behind this one."""
        return time.monotonic() >= self._case_end

    def of(self, measure: Callable[[], T]) -> Measured[T]:
        """Measure again and again; disturbed rounds are only kept where there are too few others."""
        calm: list[T] = []
        disturbed: list[T] = []
        while len(calm) < self.wanted:
            tried = len(calm) + len(disturbed)
            if tried >= self.wanted and (self._is_in_haste or tried >= MOST_TRIES * self.wanted):
                break
            sample, is_calm = self._watched(measure)
            (calm if is_calm else disturbed).append(sample)
        kept = (calm + disturbed)[: self.wanted]
        return Measured(kept, len(kept) - len(calm))

    def _watched(self, measure: Callable[[], T]) -> tuple[T, bool]:
        """Measure once; whether nobody else computed, and memory was as fast after it as before."""
        if not self.is_quick and not self._is_in_haste:
            wait_for_quiet(QUIET_SECONDS)
        before, others = self._memory.now(), Others()
        sample = measure()
        is_calm = others.share() <= DISTURBED_SHARE
        self._memory.now()
        return sample, is_calm and self._memory.is_near(before)


class Case(NamedTuple):
    """Some rows that are measured together.

    Attributes:
        name: by which they are asked for alone: "P5:experts".
        rows: measures them.
    """

    name: str
    rows: Callable[[Rounds], Iterator[Row]]


class Asked(NamedTuple):
    """What a part was asked for.

    Attributes:
        folder: holds one folder for each model, made when needed.
        quick: small models, one round.
        minutes: for the part.
        llama_cpp: an interpreter that has llama-cpp-python and gguf.
        only: parts or cases; empty for all.
    """

    folder: Path
    quick: bool
    minutes: float
    llama_cpp: Path | None
    only: tuple[str, ...] = ()


def run(bench: str, description: str | None, cases: Callable[[Asked], Iterator[Case]]) -> None:
    """Be the main of a part: print each row as soon as it is there, and one JSON line last."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser, minutes=10.0)
    parser.add_argument("--json", action="store_true", help="rows as JSON, one a line, for bench.engine")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vramble-bench-") as parent:
        if not asked.json:
            os.environ["XDG_CACHE_HOME"] = parent  # nothing was measured, learned or kept before
            print(HEADER)
        wanted = Asked(asked.folder or Path(parent), asked.quick, asked.minutes, asked.llama_cpp, asked.only)
        known, rows = list(cases(wanted)), []
        require_known(parser, asked.only, [case.name for case in known])
        for row in _measured([case for case in known if is_wanted(case.name, asked.only)], wanted):
            rows.append(row.record())
            print(json.dumps(row.record()) if asked.json else row.line(), flush=True)
    if not asked.json:
        print(json.dumps({"bench": bench, "quick": asked.quick, "rows": rows}))


def add_arguments(parser: argparse.ArgumentParser, minutes: float) -> None:
    """Add what every part and the whole of them take."""
    parser.add_argument("folder", type=Path, nargs="?", help="keeps the models between runs")
    parser.add_argument("--quick", action="store_true", help="small models, one round: does it run")
    parser.add_argument("--minutes", type=float, default=minutes, help="%(default)g, all together")
    parser.add_argument("--only", type=_parts, default=(), metavar="P6,P5:experts", help="some cases")
    parser.add_argument("--llama-cpp", type=Path, metavar="PYTHON", help="that has llama-cpp-python and gguf")


def _parts(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def is_wanted(case: str, only: Iterable[str]) -> bool:
    """Whether a case is asked for: by its name, by that of its part, or because everything is."""
    return not only or case in only or case.partition(":")[0] in only


def require_known(parser: argparse.ArgumentParser, only: Iterable[str], cases: Iterable[str]) -> None:
    """End where something was asked for that no case is named."""
    known = sorted(set(cases))
    for wish in only:
        if not any(is_wanted(case, (wish,)) for case in known):
            parser.error(f"{wish} is none of {', '.join(known)}")


def _measured(cases: Sequence[Case], asked: Asked) -> Iterator[Row]:
    rounds = Rounds(1 if asked.quick else ROUNDS, 60 * asked.minutes)
    for index, case in enumerate(cases):
        if rounds.time_is_up:
            print(f"{case.name}: not measured, the time is up", file=sys.stderr, flush=True)
            continue
        rounds.begin(len(cases) - index)
        yield from case.rows(rounds)
