"""A plan that was made earlier, held against what is free now."""

from __future__ import annotations

from collections.abc import Iterable

from engine.errors import DoesNotFit
from engine.plan.budgets import GPU_RESERVE_BYTES, RAM_RESERVE_BYTES
from engine.plan.devices import by_kind
from engine.plan.explain import against, gib
from engine.plan.footprint import Footprint
from engine.plan.limits import machine_limits
from engine.values import Budget, DevicePlan, Placement, Tier

_HINT = "Free some memory, or plan again: more may have to lie elsewhere now."


def require_room(placement: Placement, footprint: Footprint, budgets: Iterable[Budget]) -> None:
    """Refuse a ready-made placement that no longer fits, before anything of it is allocated.

    The reserves of a plan may be used up: what is free changes from moment to moment.

    Args:
        placement: made earlier, perhaps with other figures.
        footprint: of its model.
        budgets: what is free now, without the person's caps.

    Raises:
        DoesNotFit: a device has less than the placement needs of it.
    """
    devices = by_kind(given := tuple(budgets), machine_limits(given))
    for plan in placement.devices:
        if plan.device.startswith("gpu:"):
            _check(
                plan, next((gpu for gpu in devices.gpus if gpu.uuid == plan.uuid), None), GPU_RESERVE_BYTES
            )
        elif plan.device == "ram":
            _check(plan, devices.ram, RAM_RESERVE_BYTES)
    on_disk = {layer.name for layer in placement.layers if layer.tier is Tier.DISK}
    rewritten = sum(module.rewritten_bytes for module in footprint.modules if module.name in on_disk)
    if rewritten > devices.disk.free_bytes:
        needs = against(rewritten, devices.disk.free_bytes)
        raise DoesNotFit(f"For {gib(rewritten)} that must be rewritten, the disk {needs}.", _HINT)


def _check(plan: DevicePlan, budget: Budget | None, reserve: int) -> None:
    room = budget.free_bytes + reserve if budget and budget.free_bytes else 0
    if plan.predicted_bytes > room:
        needs = against(plan.predicted_bytes, room)
        raise DoesNotFit(f"By its plan, {plan.label or plan.device} {needs}, as of now.", _HINT)
