"""What is known of a machine: measured and kept, or typical."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import msgspec
import pytest

from engine.plan import limits
from engine.plan.kept import keep_ratios
from engine.plan.limits import (
    keep_limits,
    kept_limits,
    machine_key,
    machine_limits,
    typical_gpu,
    typical_limits,
    versions,
)
from engine.readings import RamReading
from engine.values import Budget, MachineLimits

GIB = 1 << 30
UUID = "GPU-1"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VRAMBLE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def measured(**changes: object) -> MachineLimits:
    gpu = msgspec.structs.replace(typical_gpu(24 * GIB), uuid=UUID, vram_bandwidth=123e9, is_measured=True)
    told = {"measured_at": 1.0, "versions": versions(), "ram_bandwidth": 77e9, "gpus": (gpu,)}
    return msgspec.structs.replace(typical_limits(), **(told | changes))


def kept_file(home: Path) -> Path:
    (path,) = (home / "cache").glob("limits-*.json")
    return path


def gpu(device: str, uuid: str = "", total_bytes: int = 24 * GIB) -> Budget:
    return Budget(device=device, free_bytes=GIB, total_bytes=total_bytes, uuid=uuid)


def test_a_machine_that_was_never_measured_gets_typical_figures() -> None:
    told = machine_limits()
    assert told.measured_at == 0
    assert told.linear_bandwidth == typical_limits().linear_bandwidth


def test_what_was_measured_is_found_again() -> None:
    keep_limits(measured())
    assert kept_limits() == measured()
    assert machine_limits().ram_bandwidth == 77e9


def test_the_file_and_its_folder_are_private(home: Path) -> None:
    keep_limits(measured())
    assert stat.S_IMODE(kept_file(home).stat().st_mode) == 0o600
    assert stat.S_IMODE((home / "cache").stat().st_mode) == 0o700


def test_keeping_leaves_no_drafts_behind(home: Path) -> None:
    keep_limits(measured())
    keep_limits(measured(ram_bandwidth=78e9))
    assert [path.name for path in (home / "cache").iterdir()] == [kept_file(home).name]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff\xfe", b'{"ram_bandwidth": "fast"}', b"[" * 5000]
)
def test_a_damaged_file_is_as_good_as_none(home: Path, content: bytes) -> None:
    keep_limits(measured())
    kept_file(home).write_bytes(content)
    assert kept_limits() is None


@pytest.mark.parametrize(
    ("name", "figure"),
    [("ram_bandwidth", 0.0), ("op_seconds", -1.0), ("linear_bandwidth", {"bfloat16": 0.0})],
)
def test_figures_that_cannot_be_are_not_taken(home: Path, name: str, figure: object) -> None:
    keep_limits(measured())
    content = json.loads(kept_file(home).read_text())
    kept_file(home).write_text(json.dumps(content | {name: figure}))
    assert kept_limits() is None


def test_a_link_in_the_files_place_is_not_followed(home: Path, tmp_path: Path) -> None:
    keep_limits(measured())
    elsewhere = tmp_path / "elsewhere.json"
    os.replace(kept_file(home), elsewhere)
    (home / "cache" / f"limits-{limits.machine_key()}.json").symlink_to(elsewhere)
    assert kept_limits() is None


def test_figures_of_other_libraries_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_limits(measured())
    monkeypatch.setattr(limits, "FORMAT", limits.FORMAT + 1)
    assert kept_limits() is None


def test_figures_of_another_machine_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_limits(measured())
    monkeypatch.setattr("platform.node", lambda: "another-host")
    assert kept_limits() is None


def test_without_a_place_to_write_to_nothing_is_kept(home: Path) -> None:
    home.write_text("no folder")
    keep_limits(measured())
    assert kept_limits() is None


def test_a_gpu_is_found_by_its_uuid_whatever_it_is_called_now() -> None:
    keep_limits(measured())
    first, second = machine_limits([gpu("gpu:0"), gpu("gpu:1", UUID)]).gpus
    assert (first.device, first.is_measured) == ("gpu:0", False)
    assert (second.device, second.is_measured, second.vram_bandwidth) == ("gpu:1", True, 123e9)


def test_an_imagined_gpu_is_as_fast_as_its_size_suggests() -> None:
    sizes = [16, 24, 80, 141]
    told = machine_limits([gpu(f"gpu:{n}", total_bytes=size * GIB) for n, size in enumerate(sizes)])
    speeds = [each.vram_bandwidth for each in told.gpus]
    assert speeds == sorted(speeds)
    assert len(set(speeds)) == len(sizes)


def test_the_page_cache_may_take_what_is_free() -> None:
    assert 0 < machine_limits().page_cache_bytes <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_what_the_engine_holds_is_room_for_the_pages_of_the_next_model() -> None:
    def ram(anonymous: int) -> RamReading:
        used = 8 * GIB + anonymous
        return RamReading(total_bytes=24 * GIB, ram_used=used, engine_anonymous_bytes=anonymous)

    assert machine_limits((), ram(0)).page_cache_bytes == 16 * GIB
    assert machine_limits((), ram(5 * GIB)).page_cache_bytes == 16 * GIB


def test_what_was_learned_against_other_figures_is_forgotten_with_them() -> None:
    keep_ratios(machine_key(), {"a model": (2.0, 0.5)})
    keep_limits(measured())
    assert machine_limits().learned == {}
