"""How a checkpoint was computed when it was loaded before: what was tried then need not be tried again."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import msgspec

from engine.checkpoint import Verdict
from engine.hf.native.library import Kernels
from engine.plan.kept import keep_value, kept_value, scratch_folder
from engine.plan.limits import machine_key
from engine.plan.packed import identity_of
from engine.values import Quantization

MOST_WAYS = 200


class Way(msgspec.Struct, frozen=True):
    """What one call of the kernels for a whole step was found to be.

    Attributes:
        interleaved: rotary pairs are neighbours.
        seconds: that a token takes.
        continues: a chunk of a prompt can be computed behind another.
    """

    interleaved: bool
    seconds: float
    continues: bool


def name_of(verdict: Verdict, quantization: Quantization, kernels: Kernels) -> str | None:
    """Name what a way belongs to: the checkpoint as it is now, its packing, and all code that computes it.

    None where the checkpoint cannot be told from others.
    """
    said = identity_of(verdict)
    if said is None:
        return None
    parts = [*said, quantization.value, kernels.name, _translation()]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


@functools.cache
def _translation() -> str:
    """Stands for the code that translates models into programs."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"\0".join(source.read_bytes() for source in sources)).hexdigest()


def way_before(name: str) -> Way | None:
    """Return what was kept under a name on this machine, with these versions of the libraries."""
    way = _kept().get(name)
    return way if way is not None and 0 < way.seconds < float("inf") else None


def keep_way(name: str, way: Way) -> None:
    """Keep a way for later loads; the ones kept first go first."""
    kept = _kept()
    kept.pop(name, None)
    keep_value(_file(), dict([*kept.items(), (name, way)][-MOST_WAYS:]))


def _kept() -> dict[str, Way]:
    return kept_value(_file(), dict[str, Way]) or {}


def _file() -> Path:
    return scratch_folder() / f"ways-{machine_key()}.json"
