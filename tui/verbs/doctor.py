"""`vramble doctor`: what works on this machine, what that means, and what to do."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from tui.verbs import flags, output
from tui.verbs.checks.finding import Finding, Status


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `vramble doctor` takes."""
    flags.add_json_flag(parser)


def run(arguments: argparse.Namespace) -> int:
    """Check everything and say it; 1 where something does not work at all."""
    findings = examine()
    works = not any(finding.status is Status.FAIL for finding in findings)
    if arguments.json:
        output.write_json({"works": works, "checks": [asdict(finding) for finding in findings]})
    else:
        _write(findings)
    return 0 if works else 1


def examine() -> list[Finding]:
    """Every finding, in the order it is shown."""
    from tui.verbs.checks.kernels import check_kernels
    from tui.verbs.checks.libraries import check_libraries
    from tui.verbs.checks.memory import check_memory
    from tui.verbs.checks.places import check_places
    from tui.verbs.checks.quantizers import check_quantizers
    from tui.verbs.checks.speed import check_speed
    from tui.verbs.checks.terminal import check_terminal

    found = [*check_memory(), *check_speed(), *check_libraries(), *check_quantizers(), *check_kernels()]
    return [*found, *check_terminal(), *check_places()]


def _write(findings: list[Finding]) -> None:
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        output.write_line(f"{finding.status:4}  {finding.name:{width}}  {finding.found}")
        if finding.advice:
            output.write_line(f"{'':4}  {'':{width}}  -> {finding.advice}")
