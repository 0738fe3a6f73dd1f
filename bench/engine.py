"""Every figure of the engine beside its limit and its peer: `python -m bench.engine [folder] [--quick]`.

One part after the other, each in a process of its own: `bench.native` (P5), the same without our kernels,
`bench.disk` (P6), `bench.load` (P8), `bench.turns` (P11, P15) and `bench.host` (P12, P13, P14). Within a part
ours, the limit and the peer are measured in turns; a figure is the median of five rounds, and a round that
others disturbed is repeated as long as the part has time. Where there is not enough time a part leaves out
what comes last and says so. `--only P6,P5:experts` takes some parts, and some cases alone. Prints each row
as soon as it is there, then one JSON line. `--quick` takes small models and one round: it says whether
everything runs, and its figures are worth nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench.quiet import build_kernels
from bench.rows import HEADER, Row, add_arguments, is_wanted, require_known, row_of

MINUTES = 45.0
OVERTIME = 3.0
"""A part that takes so many times its share of the time has hung, and is ended."""
LEAST_SECONDS = 300.0


class Part(NamedTuple):
    """One script.

    Attributes:
        script: in this folder.
        cases: that it measures.
        share: of all the time.
        without_kernels: torch computes everything.
    """

    script: str
    cases: tuple[str, ...]
    share: float
    without_kernels: bool = False


_HOSTS = ("random", "guide")
PARTS = (
    Part("native", ("P5:bf16", "P5:nf4", "P5:experts"), 0.37),
    Part("native", ("P5:no-kernels",), 0.05, without_kernels=True),
    Part("disk", ("P6:1b", "P6:3b", "P6:plan"), 0.20),
    Part("load", ("P8:cold", "P8:warm", "P8:nf4", "P8:start", "P8:peak", "P8:3b-start", "P8:3b-nf4"), 0.26),
    Part("turns", ("P11:turn", "P15:unload"), 0.05),
    Part("host", tuple(f"{part}:{model}" for model in _HOSTS for part in ("P12", "P14", "P13")), 0.07),
)


def chosen(only: tuple[str, ...]) -> list[Part]:
    """Return the parts that measure some of these; all where there are none."""
    return [part for part in PARTS if any(is_wanted(case, only) for case in part.cases)]


def measured(part: Part, asked: argparse.Namespace, folder: Path, scratch: Path) -> Iterator[Row]:
    """Run a part, and yield its rows as they come. Raises CalledProcessError when it fails."""
    minutes = asked.minutes * part.share / sum(other.share for other in chosen(asked.only))
    command = [sys.executable, "-m", f"bench.{part.script}", str(folder), "--json", "--minutes", str(minutes)]
    command += ["--quick"] if asked.quick else []
    command += ["--llama-cpp", str(asked.llama_cpp)] if asked.llama_cpp else []
    wishes = [wish for wish in asked.only if any(is_wanted(case, (wish,)) for case in part.cases)]
    command += ["--only", ",".join(wishes)] if wishes else []
    with subprocess.Popen(
        ["timeout", "--foreground", f"{max(LEAST_SECONDS, 60 * OVERTIME * minutes):.0f}", *command],
        stdout=subprocess.PIPE, text=True, env=environment(part, scratch),
    ) as process:  # fmt: skip
        for line in process.stdout or ():
            yield row_of(json.loads(line))
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def environment(part: Part, scratch: Path) -> dict[str, str]:
    """Nothing that was measured, learned or packed before; compiled kernels are shared by the parts."""
    cache = scratch / f"{part.script}-{PARTS.index(part)}"
    kernels = "off" if part.without_kernels else str(scratch / "kernels")
    return {**os.environ, "XDG_CACHE_HOME": str(cache), "VRAMBLE_KERNELS": kernels}


def main() -> int:
    """Measure, print the rows and then the JSON line; 1 where a part failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser, MINUTES)
    asked = parser.parse_args()
    require_known(parser, asked.only, [case for part in PARTS for case in part.cases])
    rows: list[Row] = []
    failed: list[str] = []
    print(HEADER)
    with tempfile.TemporaryDirectory(prefix="vramble-bench-") as parent:
        parts = chosen(asked.only)
        if with_kernels := [part for part in parts if not part.without_kernels]:
            build_kernels(environment(with_kernels[0], Path(parent)))
        for part in parts:
            try:
                for row in measured(part, asked, asked.folder or Path(parent), Path(parent)):
                    rows.append(row)
                    print(row.line(), flush=True)
            except subprocess.CalledProcessError as error:
                print(f"bench.{part.script} ended with {error.returncode}", flush=True)
                failed.append(part.script)
    print(json.dumps({
        "bench": "engine",
        "quick": asked.quick,
        "missed": [row.name for row in rows if row.verdict == "MISSED"],
        "failed": failed,
        "rows": [row.record() for row in rows],
    }))  # fmt: skip
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
