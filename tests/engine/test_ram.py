from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from engine.ram import read_bytes_from_disk, read_ram

MIB = 1 << 20
GIB = 1 << 30


def write(root: Path, files: dict[str, str | int]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


def machine(root: Path, cgroup: str, **files: str | int) -> Path:
    """A machine of 64 GiB, 40 of them available, whose process lies in these cgroups."""
    meminfo = f"MemTotal: {64 * GIB // 1024} kB\nMemAvailable: {40 * GIB // 1024} kB\n"
    meminfo += f"Cached: {8 * GIB // 1024} kB\nSReclaimable: {GIB // 1024} kB\nShmem: {2 * GIB // 1024} kB"
    return write(root, {"proc/meminfo": meminfo, "proc/self/cgroup": cgroup, **files})


def v1(total: int | str, used: int, cache: int = 0) -> dict[str, str | int]:
    stat = f"total_cache {cache}\ntotal_inactive_file {cache}\ntotal_active_file 0"
    return {"memory.limit_in_bytes": total, "memory.usage_in_bytes": used, "memory.stat": stat}


def v2(total: int | str, used: int, cache: int = 0) -> dict[str, str | int]:
    stat = f"anon 5\nfile {cache}\ninactive_file {cache // 2}\nactive_file {cache // 2}"
    return {"memory.max": total, "memory.current": used, "memory.stat": stat}


def under(folder: str, files: dict[str, str | int]) -> dict[str, str | int]:
    return {f"sys/fs/cgroup/{folder}/{name}": content for name, content in files.items()}


def test_without_a_limit_the_machine_is_the_limit(tmp_path: Path) -> None:
    ram = read_ram(None, machine(tmp_path, "0::/"))
    assert (ram.total_bytes, ram.ram_used, ram.limit) == (64 * GIB, 24 * GIB, "machine")
    assert ram.page_cache_bytes == 7 * GIB


def test_check_34_a_limit_of_cgroup_v1_is_the_total(tmp_path: Path) -> None:
    files = under("memory/job", v1(GIB, 700 * MIB, cache=200 * MIB))
    ram = read_ram(None, machine(tmp_path, "4:memory:/job\n0::/", **files))
    assert (ram.total_bytes, ram.ram_used, ram.limit) == (GIB, 500 * MIB, "cgroup v1")
    assert ram.page_cache_bytes == 200 * MIB


def test_check_34_a_limit_of_cgroup_v2_is_the_total(tmp_path: Path) -> None:
    files = under("user/job", v2(GIB, 700 * MIB, cache=200 * MIB))
    ram = read_ram(None, machine(tmp_path, "0::/user/job", **files))
    assert (ram.total_bytes, ram.ram_used, ram.limit) == (GIB, 500 * MIB, "cgroup v2")


def test_check_34_the_tightest_of_nested_groups_holds(tmp_path: Path) -> None:
    files = under("a/b/c", v2("max", 100 * MIB)) | under("a/b", v2(2 * GIB, 500 * MIB))
    files |= under("a", v2(8 * GIB, 7 * GIB))
    ram = read_ram(None, machine(tmp_path, "0::/a/b/c", **files))
    assert (ram.total_bytes, ram.limit) == (2 * GIB, "cgroup v2")
    assert ram.total_bytes - ram.ram_used == GIB  # what the group around it leaves


def test_check_34_a_container_sees_its_group_at_the_mount(tmp_path: Path) -> None:
    files = under("memory", v1(3 * GIB, GIB))
    ram = read_ram(None, machine(tmp_path, "9:cpu,memory:/docker/0123", **files))
    assert (ram.total_bytes, ram.ram_used) == (3 * GIB, GIB)


@pytest.mark.parametrize("limit", [2**63 - 4096, "max", "nonsense", 65 * GIB])
def test_a_limit_beyond_the_machine_is_none(tmp_path: Path, limit: int | str) -> None:
    files = under("memory/job", v1(limit, GIB)) | under("job", v2(limit, GIB))
    ram = read_ram(None, machine(tmp_path, "4:memory:/job\n0::/job", **files))
    assert (ram.total_bytes, ram.limit) == (64 * GIB, "machine")


def test_a_busy_machine_leaves_less_than_the_limit_promises(tmp_path: Path) -> None:
    files = under("job", v2(50 * GIB, GIB))
    ram = read_ram(None, machine(tmp_path, "0::/job", **files))
    assert ram.total_bytes - ram.ram_used == 40 * GIB


def test_a_group_does_not_lead_out_of_the_tree(tmp_path: Path) -> None:
    files = {"memory.max": 5, "memory.current": 5}
    write(tmp_path, {f"elsewhere/{name}": content for name, content in files.items()})
    ram = read_ram(None, machine(tmp_path, "0::/../../../elsewhere"))
    assert ram.limit == "machine"


def test_nothing_readable_is_zero_not_a_crash(tmp_path: Path) -> None:
    ram = read_ram(1, tmp_path)
    assert (ram.total_bytes, ram.ram_used, ram.engine_bytes) == (0, 0, 0)
    assert read_bytes_from_disk(1, tmp_path) == 0


def test_the_engines_own_share_comes_from_its_status(tmp_path: Path) -> None:
    status = "Name:\tengine\nVmRSS:\t  2048 kB\nRssAnon:\t   512 kB\nThreads:\t3"
    root = machine(tmp_path, "", **{"proc/77/status": status, "proc/77/io": "rchar: 9\nread_bytes: 4096"})
    ram = read_ram(77, root)
    assert (ram.engine_bytes, ram.engine_anonymous_bytes) == (2 * MIB, MIB // 2)
    assert read_bytes_from_disk(77, root) == 4096
    assert read_bytes_from_disk(None, root) == 0


def test_this_machine_is_read_as_psutil_reads_it() -> None:
    ram = read_ram(os.getpid())
    assert ram.total_bytes <= psutil.virtual_memory().total
    assert 0 < ram.ram_used <= ram.total_bytes
    assert ram.engine_bytes == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)
