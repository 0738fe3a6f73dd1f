"""How fast this machine's memories are, which is what predictions of speed rest on."""

from __future__ import annotations

import time

from engine import live_budgets, machine_limits, values
from tui.format import format_age, format_rate
from tui.verbs.checks.finding import Finding, ok, warn

_MEASURE = "`vramble plan guide --measure` measures it, some seconds long."
_TERA = 1e12


def check_speed() -> list[Finding]:
    """What this machine measured, or that it never did."""
    return judge(machine_limits(live_budgets(values.BudgetRequest())), time.time())


def judge(limits: values.MachineLimits, now: float) -> list[Finding]:
    """Findings about a machine's limits.

    Args:
        limits: measured, or typical ones.
        now: seconds since the epoch.
    """
    if not limits.measured_at:
        found = "This machine was never measured: speeds are predicted from typical figures."
        return [warn("limits", found, _MEASURE)]
    age = format_age(max(0.0, now - limits.measured_at))
    when = "now" if age == "now" else f"{age} ago"
    found = (
        f"RAM {format_rate(limits.ram_bandwidth)}, disk {format_rate(limits.disk_bandwidth)}, "
        f"16-bit weights on the CPU {format_rate(limits.linear_bandwidth.get('bfloat16', 0.0))}; "
        f"measured {when}."
    )
    return [*_disturbed(limits), ok("limits", found), *map(_gpu, limits.gpus)]


def _disturbed(limits: values.MachineLimits) -> list[Finding]:
    if not limits.was_disturbed:
        return []
    found = (
        f"Other programs used the cores while this machine was measured ({limits.waited_share:.0%} of the "
        "time was waiting): it is faster than the predictions say."
    )
    return [warn("limits", found, "`vramble plan guide --measure` measures it again, when it is calm.")]


def _gpu(gpu: values.GpuLimits) -> Finding:
    name = f"limits {gpu.device}"
    if not gpu.is_measured:
        return warn(name, "This GPU was never measured: typical figures of its size stand in.", _MEASURE)
    flops = max(gpu.flops.values(), default=0.0) / _TERA
    return ok(
        name,
        f"VRAM {format_rate(gpu.vram_bandwidth)}, link from RAM {format_rate(gpu.link_bandwidth)}, "
        f"{flops:.1f} TFLOP/s.",
    )
