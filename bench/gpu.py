"""Every target that needs a GPU, beside its limit and its peers, inside 9 minutes: `python -m bench.gpu`.

P1, P2, P3, P4, P7, P8 warm, P9, P10, P15 on weights that are made here. Needs torch, transformers, accelerate
and msgspec; nothing of the screen. A section that fails says so, and the others go on. With --tiny everything
runs on the CPU in small, to show that it runs; its figures mean nothing. Prints a table, then one JSON line.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import transformers
from transformers.utils import logging as transformers_logging

from bench.gpu_decode import compiled, compiled_large, resident, resident_small
from bench.gpu_engine import engine
from bench.gpu_rig import Figure, Rig, real_sizes, tiny_sizes
from bench.gpu_stream import streamed

BUDGET_SECONDS = 520.0


class Section(NamedTuple):
    """Some figures that are measured together.

    Attributes:
        name: on the command line.
        measure: yields them.
        seconds: it takes at most, roughly; it is left out where less is left.
    """

    name: str
    measure: Callable[[Rig], Iterator[Figure]]
    seconds: float


SECTIONS = (
    Section("resident", resident, 60.0),
    Section("resident_small", resident_small, 30.0),
    Section("streamed", streamed, 90.0),
    Section("engine", engine, 150.0),
    Section("compiled", compiled, 90.0),
    Section("compiled_large", compiled_large, 100.0),
)


class Report:
    """What was measured, and what went wrong."""

    def __init__(self, deadline: float) -> None:
        """Start empty.

        Args:
            deadline: on time.monotonic's clock.
        """
        self.figures: list[Figure] = []
        self.failures: dict[str, str] = {}
        self._deadline = deadline

    def run(self, section: Section, rig: Rig) -> None:
        """Measure one section; whatever goes wrong there is its own."""
        if self._deadline - time.monotonic() < section.seconds:
            self.failures[section.name] = "left out: too little time is left"
            return
        began = time.monotonic()
        try:
            for figure in section.measure(rig):
                self._add(figure)
        except Exception as error:  # noqa: BLE001 - the others must still be measured, whatever it was
            traceback.print_exc()
            self.failures[section.name] = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        rig.free()
        print(f"-- {section.name}: {time.monotonic() - began:.0f} s", flush=True)

    def limits(self, rig: Rig) -> None:
        """Measure what the figures are held against."""
        for figure in rig.measure():
            self._add(figure)

    def as_json(self, rig: Rig) -> str:
        """Return one line."""
        device = torch.cuda.get_device_name(rig.device) if rig.device.type == "cuda" else "cpu"
        return json.dumps(
            {
                "bench": "gpu",
                "device": device,
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                "figures": [figure._asdict() | {"holds": figure.holds} for figure in self.figures],
                "failures": self.failures,
            }
        )

    def _add(self, figure: Figure) -> None:
        self.figures.append(figure)
        print(_row(figure), flush=True)


def _row(figure: Figure) -> str:
    share = "" if figure.share is None else f"{figure.share:8.3f}"
    sign = "<=" if figure.most else ">="
    target = "" if figure.target is None else f"{sign} {figure.target:.2f}"
    verdict = {True: "holds", False: "MISSED", None: ""}[figure.holds]
    achieved = f"{figure.achieved:12.3f} {figure.unit:8}"
    return f"{figure.target_id:4} {figure.name:42} {achieved} {share:>8} {target:>8} {verdict}"


def main(arguments: list[str]) -> int:
    """Measure, print, and return 0 when every section ran."""
    parser = argparse.ArgumentParser(prog="bench.gpu", description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="on the CPU, in small")
    parser.add_argument("--only", action="append", choices=[section.name for section in SECTIONS])
    parser.add_argument("--seconds", type=float, default=BUDGET_SECONDS, help="for everything")
    asked = parser.parse_args(arguments)
    if not asked.tiny and not torch.cuda.is_available():
        print("There is no GPU here; --tiny shows that everything runs.", file=sys.stderr)
        return 2
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    rig = Rig(torch.device("cpu"), tiny_sizes()) if asked.tiny else Rig(torch.device("cuda", 0), real_sizes())
    report = Report(time.monotonic() + asked.seconds)
    report.limits(rig)
    for section in SECTIONS:
        if not asked.only or section.name in asked.only:
            report.run(section, rig)
    print(*(f"FAILED {name}: {reason}" for name, reason in report.failures.items()), sep="\n")
    print(report.as_json(rig))
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
