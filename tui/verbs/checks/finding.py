"""One line of `vramble doctor`."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Status(enum.StrEnum):
    """How a thing is: works, works with less, does not work."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was found about one thing.

    Attributes:
        name: the thing ("GPU 0", "nf4").
        status: how it is.
        found: what it is, and what that means.
        advice: what to do; empty when all is well.
    """

    name: str
    status: Status
    found: str
    advice: str = ""


def ok(name: str, found: str) -> Finding:
    """A thing that works."""
    return Finding(name=name, status=Status.OK, found=found)


def warn(name: str, found: str, advice: str) -> Finding:
    """A thing that works with less than it could."""
    return Finding(name=name, status=Status.WARN, found=found, advice=advice)


def fail(name: str, found: str, advice: str) -> Finding:
    """A thing without which something does not work at all."""
    return Finding(name=name, status=Status.FAIL, found=found, advice=advice)
