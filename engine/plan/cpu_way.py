"""The way to place a model that uses no GPU, and what is short where there is none."""

from __future__ import annotations

from itertools import accumulate

from engine.plan.devices import Devices
from engine.plan.draft import Draft, Filling, disk_need
from engine.plan.need import Need
from engine.values import DevicePlan, Tier


def cpu_way(need: Need, devices: Devices) -> Filling | None:
    """The way that leaves the fewest modules on disk, computed by the CPU; None where nothing fits.

    Beside modules on disk, bitsandbytes leaves those in RAM unpacked.
    """
    whole = _filled(need, devices, len(need.modules))
    if _fits(whole, devices):
        return whole
    for count in range(_most_in_ram(need, devices), -1, -1):
        if disk_need(need.modules[count:], devices.disk) > devices.disk.free_bytes:
            return None
        way = _filled(need, devices, count)
        if _fits(way, devices):
            return way
    return None


def _most_in_ram(need: Need, devices: Devices) -> int:
    """No more modules than this fit into RAM beside others on disk."""
    taken = need.kv_bytes + need.activation_bytes + devices.ram_runtime_bytes(has_gpus=False)
    room = devices.ram.free_bytes - taken
    sums = accumulate((module.plain_bytes for module in need.modules), initial=0)
    buffers = _least_read_ahead(need)
    fitting = (count for count, size in enumerate(sums) if size + buffers[count] <= room)
    return min(max(fitting, default=-1), len(need.modules) - 1)


def _least_read_ahead(need: Need) -> list[int]:
    """No less than this is held of the modules from each position on: the largest; 0 behind the last."""
    sizes = (need.read_ahead_bytes([module]) for module in reversed(need.modules))
    return list(accumulate(sizes, max, initial=0))[::-1]


def _filled(need: Need, devices: Devices, count: int) -> Filling:
    draft = Draft(need.footprint, devices, has_gpus=False)
    rest = need.modules[count:]
    draft.put(need.modules[:count], Tier.CPU, "ram", packed=not rest)
    draft.put(rest, Tier.DISK, "disk")
    draft.reserve("ram", need.kv_bytes, need.cpu_reserve_bytes(rest))
    return draft.finish()


def _fits(way: Filling, devices: Devices) -> bool:
    return way.of("ram").predicted_bytes <= devices.ram.free_bytes


def least_need(need: Need, devices: Devices) -> tuple[DevicePlan, ...]:
    """What RAM and disk would have to hold if every module were to lie on disk."""
    return _filled(need, devices, 0).devices
