"""RAM of this machine within the cgroup limits that hold for this process, v1 and v2."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from engine.readings import RamReading

_KIB = 1024


class Limit(NamedTuple):
    """One ceiling on this process's memory, in bytes.

    Attributes:
        total: the ceiling.
        used: under it, in use and not reclaimable.
        page_cache: under it, file pages.
        name: "machine", "cgroup v1" or "cgroup v2".
    """

    total: int
    used: int
    page_cache: int
    name: str


def read_ram(pid: int | None = None, root: Path = Path("/")) -> RamReading:
    """RAM within the lowest ceiling; what is free there is the least that any ceiling leaves.

    Args:
        pid: the engine's process; None while there is none.
        root: where /proc and /sys lie.
    """
    machine = _machine(root)
    limits = [machine, *(limit for limit in _cgroup_limits(root) if limit.total < machine.total)]
    lowest = min(limits, key=lambda limit: limit.total)
    free = max(0, min(limit.total - limit.used for limit in limits))
    resident, anonymous = _process_bytes(pid, root)
    return RamReading(
        total_bytes=lowest.total,
        ram_used=max(0, lowest.total - free),
        engine_bytes=resident,
        engine_anonymous_bytes=anonymous,
        page_cache_bytes=min(lowest.page_cache, lowest.total),
        limit=lowest.name,
    )


def read_bytes_from_disk(pid: int | None, root: Path = Path("/")) -> int:
    """Bytes that a process has made disks deliver since it began; 0 where that is not told."""
    return _fields(root / f"proc/{pid}/io").get("read_bytes", 0) if pid else 0


def _machine(root: Path) -> Limit:
    fields = _fields(root / "proc/meminfo")
    total = fields.get("MemTotal", 0)
    cache = fields.get("Cached", 0) + fields.get("SReclaimable", 0) - fields.get("Shmem", 0)
    return Limit(total, total - fields.get("MemAvailable", 0), max(0, cache), "machine")


def _cgroup_limits(root: Path) -> Iterator[Limit]:
    """The ceilings of this process's group and of every group around it."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "memory" in controllers.split(","):
            yield from _walk(root / "sys/fs/cgroup/memory", path, _limit_v1)
        elif number == "0" and not controllers:
            yield from _walk(root / "sys/fs/cgroup", path, _limit_v2)


def _walk(mount: Path, path: str, read: Callable[[Path], Limit | None]) -> Iterator[Limit]:
    """A container may see its own group at the mount itself: paths that are not there are passed over."""
    parts = [part for part in path.split("/") if part not in {"", ".", ".."}]
    for length in range(len(parts), -1, -1):
        limit = read(mount.joinpath(*parts[:length]))
        if limit is not None:
            yield limit


def _limit_v1(group: Path) -> Limit | None:
    total = _number(group / "memory.limit_in_bytes")
    if total is None:
        return None
    used = _number(group / "memory.usage_in_bytes") or 0
    stat = _fields(group / "memory.stat")
    reclaimable = stat.get("total_inactive_file", 0) + stat.get("total_active_file", 0)
    return Limit(total, max(0, used - reclaimable), stat.get("total_cache", 0), "cgroup v1")


def _limit_v2(group: Path) -> Limit | None:
    total = _number(group / "memory.max")
    if total is None:
        return None
    used = _number(group / "memory.current") or 0
    stat = _fields(group / "memory.stat")
    reclaimable = stat.get("inactive_file", 0) + stat.get("active_file", 0)
    return Limit(total, max(0, used - reclaimable), stat.get("file", 0), "cgroup v2")


def _process_bytes(pid: int | None, root: Path) -> tuple[int, int]:
    fields = _fields(root / f"proc/{pid}/status") if pid else {}
    return fields.get("VmRSS", 0), fields.get("RssAnon", 0)


def _fields(path: Path) -> dict[str, int]:
    """Lines of `name value` or `name: value kB`, in bytes; empty where the file cannot be read."""
    fields = {}
    for line in _read(path).splitlines():
        name, *values = line.replace(":", " ").split()[:3] or [""]
        if values and values[0].isdigit():
            fields[name] = int(values[0]) * (_KIB if values[1:] == ["kB"] else 1)
    return fields


def _number(path: Path) -> int | None:
    """A file's only number; None for `max`, or where it cannot be read."""
    text = _read(path).strip()
    return int(text) if text.isdigit() else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
