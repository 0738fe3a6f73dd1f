"""What a plan predicts beside what a load then takes: `python -m bench.plan [--quick] [--random N]`.

P9: RAM of the engine process (resident, anonymous and file) at its peak during load, prefill and decode
to the full context, under a memory cgroup of the plan's budget where one can be made. Beside it, decode
tokens/s at the full context, and load seconds from files that are not cached, into memory that was touched
once before: a host that has taken it back needs longer for that than the disk for its bytes. Memory is
probed around each reply, of which the median counts: where it is slower or faster than when the machine was
measured, that is done anew, and the case planned anew.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from bench.models import VOCABULARY, wide_tokenizer
from bench.plan_cases import Case, Shelf, covering, quick
from bench.plan_random import survive
from bench.plan_run import EngineClient, Run, RunFailed, prompt_of, run
from bench.plan_watch import Cage, cage
from bench.quiet import QUIET_SHARE, MemoryProbe, Others, build_kernels, touch_memory, wait_for_quiet
from engine.checkpoint import inspect_folder
from engine.commands import DryRun, MeasureLimits
from engine.events import DryRunDone, LimitsMeasured
from engine.memory import read_memory
from engine.offload import parent_folder
from engine.plan import footprint_of, live_budgets, placement_for
from engine.plan.limits import kept_limits, machine_limits
from engine.plan.packed import packed_folder
from engine.plan.shelf import known_blueprint
from engine.readings import RamReading
from engine.values import BudgetRequest, Placement

MIB = 1 << 20
MB = 1_000_000
LEAST_TOLERANCE = 256 * MIB
TOLERANCE, LARGEST_SHORTFALL = 0.02, 0.01
SPEED_TOLERANCE, LOAD_TOLERANCE = 0.25, 0.40
HEADROOM = 1.25
REPLY_TOKENS = 64
"""The first tokens of a reply are slower than the rest."""
REPLY_TOKENS_FROM_DISK = 16
SCRATCH_TOKENS = 8
MOST_TRIES = 3
"""Of what others disturbed."""


class Row(NamedTuple):
    """One case: predicted beside measured.

    Attributes:
        case: which.
        placement: the plan.
        run: what it took; None where it failed.
        failure: why; empty otherwise.
        is_undisturbed: nobody else computed meanwhile, and memory stayed as fast as it was when planned.
    """

    case: Case
    placement: Placement
    run: Run | None
    failure: str = ""
    is_undisturbed: bool = False

    @property
    def predicted_bytes(self) -> int:
        """RAM, by the plan."""
        return next(plan.predicted_bytes for plan in self.placement.devices if plan.device == "ram")

    @property
    def surplus_bytes(self) -> int:
        """How much the plan was over; negative is under."""
        return self.predicted_bytes - (self.run.peak_bytes if self.run else 0)

    @property
    def memory_is_right(self) -> bool:
        """Within max(2 %, 256 MiB), and never more than 1 % under."""
        if self.run is None:
            return False
        measured = self.run.peak_bytes
        is_near = self.surplus_bytes <= max(TOLERANCE * measured, LEAST_TOLERANCE)
        return is_near and -self.surplus_bytes <= LARGEST_SHORTFALL * measured

    @property
    def decode_ratio(self) -> float:
        """Predicted by measured tokens per second at the full context; 0 where either is not known."""
        forecast = self.placement.forecast
        return forecast.decode_tps_full / self.run.decode_tps if forecast and self.run else 0.0

    @property
    def load_ratio(self) -> float:
        """Predicted by measured seconds."""
        forecast = self.placement.forecast
        return forecast.load_seconds / self.run.load_seconds if forecast and self.run else 0.0

    @property
    def speed_is_right(self) -> bool:
        """Decode tokens per second within 25 %."""
        return abs(self.decode_ratio - 1) <= SPEED_TOLERANCE

    @property
    def load_is_right(self) -> bool:
        """Load seconds within 40 %."""
        return abs(self.load_ratio - 1) <= LOAD_TOLERANCE


def calibrate(group: Cage) -> None:
    """Measure this machine in an engine process of its own, unless it still is as fast as it was then."""
    limits = kept_limits()
    for _ in range(MOST_TRIES):
        probe = MemoryProbe()
        probe()
        if limits is not None and not limits.was_disturbed and probe.is_near(limits.ram_bandwidth):
            return
        wait_for_quiet()
        client = EngineClient(group)
        client.ask(lambda turn_id: MeasureLimits(turn_id=turn_id))
        client.wait(LimitsMeasured)
        client.close()
        limits = kept_limits()


def look(group: Cage, folders: Iterable[Path]) -> None:
    """Let an engine process put the blueprints of models on the shelf, as the plan screen does."""
    client = EngineClient(group)
    for folder in folders:
        client.ask(functools.partial(_dry_run, folder))
        client.wait(DryRunDone)
    client.close()


def _dry_run(folder: Path, turn_id: int) -> DryRun:
    return DryRun(turn_id=turn_id, folder=folder)


def plan_of(case: Case, folder: Path) -> tuple[Placement, int]:
    """The plan of a case and its RAM budget: somewhat more than it needs, or the case's share of that."""
    free = _placed(case, folder, None)
    needed = next(plan.predicted_bytes for plan in free.devices if plan.device == "ram")
    budget = int(needed * (case.ram_share or HEADROOM))
    return _placed(case, folder, budget), budget


def _placed(case: Case, folder: Path, ram_bytes: int | None) -> Placement:
    """Plan for a machine that has no more RAM than that, for its page cache either."""
    asked = BudgetRequest(ram_bytes=ram_bytes)
    reading = read_memory()
    live = live_budgets(asked, reading)
    ram = reading.ram if ram_bytes is None else RamReading(total_bytes=ram_bytes, ram_used=0)
    footprint = footprint_of(inspect_folder(folder), case.quantization, known_blueprint(folder))
    limits = machine_limits(live, ram)
    return placement_for(footprint, live, case.context_window, parent_folder(asked), limits=limits)


def evict(folder: Path) -> None:
    """Drop a checkpoint from the page cache, and what was packed of it, so that a load reads it."""
    shutil.rmtree(packed_folder(), ignore_errors=True)
    for file in folder.glob("*.safetensors"):
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def measure(case: Case, folder: Path, group: Cage) -> Row:
    """Measure one case on the machine that was planned for: again, if it was slower, faster or busy."""
    rows: list[Row] = []
    while len(rows) < MOST_TRIES and not (rows and rows[-1].is_undisturbed):
        wait_for_quiet()
        calibrate(group)
        evict(folder)
        placement, budget = plan_of(case, folder)
        rows.append(_measured(case, folder, group, placement, budget))
    return next((row for row in rows if row.is_undisturbed), rows[-1])


def _measured(case: Case, folder: Path, group: Cage, placement: Placement, budget: int) -> Row:
    """Load one planned case in a fresh process under its budget, and fill its context."""
    reply = REPLY_TOKENS_FROM_DISK if case.ram_share else REPLY_TOKENS
    prompt = prompt_of(wide_tokenizer(VOCABULARY), case.context_window - reply - SCRATCH_TOKENS)
    touch_memory(budget + sum(file.stat().st_size for file in folder.glob("*.safetensors")))
    group.limit(None)
    client = EngineClient(group)
    group.limit(budget)
    probe, others, limits = MemoryProbe(), Others(), kept_limits()
    try:
        measured = run(client, folder, placement, prompt, reply, probe)
        is_quiet = others.share() <= QUIET_SHARE
        is_steady = limits is not None and probe.is_near(limits.ram_bandwidth)
        return Row(case, placement, measured, is_undisturbed=is_quiet and is_steady)
    except RunFailed as failed:
        return Row(case, placement, None, str(failed))
    finally:
        client.close()
        group.limit(None)


def all_rows(cases: list[Case], parent: Path) -> Iterator[Row]:
    """Measure case by case."""
    shelf = Shelf(parent, cases)
    with cage() as group:
        if group.folder is None:
            print("No memory cgroup can be made here: nothing holds the engine to its budget.")
        known: set[str] = set()
        for number, case in enumerate(cases):
            folder = shelf.folder(case)
            if case.model not in known:
                look(group, [folder])
                known.add(case.model)
            yield measure(case, folder, group)
            shelf.done(case, number)


HEADER = (
    f"{'case':32}{'fits':9}{'predicted':>10}{'load':>7}{'prefill':>8}{'decode':>7}{'over':>7}{'':4}"
    f"{'tps':>7}{'measured':>9}{'':4}{'load s':>7}{'measured':>9}"
)


def line(row: Row) -> str:
    """One row of the table; bytes in MB."""
    head = f"{row.case.name:32}{row.placement.fits:9}{row.predicted_bytes / MB:10.0f}"
    if row.run is None:
        return f"{head}  FAILED: {row.failure}"
    peaks = "".join(
        f"{row.run.peaks[phase].total / MB:{width}.0f}"
        for phase, width in (("load", 7), ("prefill", 8), ("decode", 7))
    )
    forecast = row.placement.forecast
    tps, seconds = (forecast.decode_tps_full, forecast.load_seconds) if forecast else (0.0, 0.0)
    return (
        f"{head}{peaks}{row.surplus_bytes / MB:7.0f}{_mark(row.memory_is_right)}"
        f"{tps:7.1f}{row.run.decode_tps:9.1f}{_mark(row.speed_is_right)}"
        f"{seconds:7.1f}{row.run.load_seconds:9.1f}{_mark(row.load_is_right)}"
    )


def _mark(is_right: bool) -> str:
    return "    " if is_right else " ** "


def record(row: Row) -> dict[str, object]:
    """One row for the JSON line."""
    peaks = {phase: peak._asdict() for phase, peak in row.run.peaks.items()} if row.run else {}
    return {
        "case": row.case.name,
        "fits": str(row.placement.fits),
        "predicted_bytes": row.predicted_bytes,
        "measured_bytes": row.run.peak_bytes if row.run else None,
        "peaks": peaks,
        "decode_ratio": round(row.decode_ratio, 3),
        "load_ratio": round(row.load_ratio, 3),
        "undisturbed": row.is_undisturbed,
        "failure": row.failure,
    }


def main() -> int:
    """Measure, print the table and then the JSON line; 1 if memory was predicted wrongly or ran out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="eight cases")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--random", type=int, default=0, metavar="N", help="N random plans instead")
    parser.add_argument("--seed", type=int, default=1, help="of the random plans")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vramble-bench-") as parent:
        os.environ["XDG_CACHE_HOME"] = parent  # nothing was measured or learned before
        build_kernels()
        if options.random:
            return survive(options.random, options.seed, Path(parent))
        cases = [case for case in (quick() if options.quick else covering()) if options.only in case.name]
        return _report(cases, Path(parent))


def _report(cases: list[Case], parent: Path) -> int:
    print(HEADER)
    rows = []
    for row in all_rows(cases, parent):
        rows.append(row)
        print(line(row), flush=True)
    counts = {
        "cases": len(rows),
        "memory_right": sum(row.memory_is_right for row in rows),
        "decode_right": sum(row.speed_is_right for row in rows),
        "load_right": sum(row.load_is_right for row in rows),
    }
    print("  ".join(f"{name} {count}" for name, count in counts.items()))
    print(json.dumps({"bench": "plan", **counts, "rows": [record(row) for row in rows]}))
    return 0 if counts["memory_right"] == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
