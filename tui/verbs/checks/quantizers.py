"""Which quantized checkpoints can be loaded here; nothing is imported for it."""

from __future__ import annotations

from collections.abc import Sequence

from engine import QuantizerState, quantizer_states
from tui.verbs.checks.finding import Finding, ok, warn

_COMMON = ("fp8", "mxfp4", "gptq", "awq", "compressed-tensors")
_PROVED_ELSEWHERE = ("bitsandbytes",)
"""By int8 and nf4, which are really tried."""


def check_quantizers() -> list[Finding]:
    """Look at what is installed."""
    return judge(quantizer_states())


def judge(states: Sequence[QuantizerState]) -> list[Finding]:
    """A finding for each common method and each that works, and one for the others."""
    known = [state for state in states if state.method not in _PROVED_ELSEWHERE]
    told = [state for state in known if state.method in _COMMON or not state.obstacle]
    others = ", ".join(state.method for state in known if state not in told)
    rest = [ok("other formats", f"Not loaded here, being rare: {others}.")] if others else []
    return [*map(_finding, told), *rest]


def _finding(state: QuantizerState) -> Finding:
    if state.obstacle:
        found = f"Models that are stored so need {state.obstacle.lack}."
        return warn(state.method, found, state.obstacle.hint)
    by = f" by {', '.join(state.versions)}" if state.versions else ""
    if state.is_unpacked:
        return ok(state.method, f"Unpacked while loading{by}; the plan counts what that takes.")
    return ok(state.method, f"Loaded as it is stored{by}.")
