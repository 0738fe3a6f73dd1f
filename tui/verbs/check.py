"""`vramble models --check`: everything that can be told of one model without loading it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import engine
from engine import values
from tui.verbs import output

_WIDTH = 4
"""Of the longest status."""


def write_sound(model: values.ModelRef, fits: str, checks: Sequence[engine.Check]) -> None:
    """Say that it is sound and how it fits, then what was looked at."""
    output.write_line(f"{model.name} is sound, and {fits}.")
    write_checks(checks)


def write_checks(checks: Sequence[engine.Check]) -> None:
    """A line for each question, and below it what to do."""
    width = max((len(check.name) for check in checks), default=0)
    for check in checks:
        output.write_line(f"{check.status:{_WIDTH}}  {check.name:{width}}  {check.found}")
        if check.hint:
            output.write_line(f"{'':{_WIDTH}}  {'':{width}}  -> {check.hint}")


def document(model: values.ModelRef, checks: Sequence[engine.Check]) -> dict[str, Any]:
    """What `--json` says of it, however it is."""
    return {
        "name": model.name,
        "folder": str(model.place),
        "checks": [output.plain(check) for check in checks],
        "warnings": [check.found for check in checks if check.status == "warn"],
    }


def first_failure(checks: Sequence[engine.Check]) -> engine.Check | None:
    """What forbids loading it; None where nothing does."""
    return next((check for check in checks if check.status == "fail"), None)


def refuse(
    model: values.ModelRef, checks: Sequence[engine.Check], failure: engine.Check, *, as_json: bool
) -> int:
    """Say everything, and on stderr what is wrong first; the exit code."""
    output.complain(failure.found, failure.hint)
    if as_json:
        error = {"type": "CheckpointError", "message": failure.found, "hint": failure.hint}
        output.write_json({**document(model, checks), "error": error})
    else:
        write_checks(checks)
    return 1
