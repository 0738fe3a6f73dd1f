"""Whether the CPU can compute tokens with kernels of our own, which a C++ compiler builds at first use."""

from __future__ import annotations

from engine import found_compilers, kernels_are_off
from tui.verbs.checks.finding import Finding, ok, warn


def check_kernels() -> list[Finding]:
    """Look for a compiler; nothing is built here."""
    return [judge(found_compilers(), is_off=kernels_are_off())]


def judge(compilers: list[str], *, is_off: bool) -> Finding:
    """The finding about the compilers there are.

    Args:
        compilers: their paths, the one that is tried first in front.
        is_off: the person wants no kernels.
    """
    if is_off:
        return warn("kernels", "VRAMBLE_KERNELS is off: torch computes tokens.", "Unset it for more speed.")
    if not compilers:
        found = "No C++ compiler was found: on the CPU, tokens are computed by torch, up to twice as slowly."
        return warn("kernels", found, "Install g++.")
    return ok("kernels", f"{compilers[0]} builds the CPU's kernels when a model is first loaded.")
