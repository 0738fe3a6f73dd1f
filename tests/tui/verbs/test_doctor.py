"""What the doctor says of terminals, libraries and folders; its facts are given, or this machine's own."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

import engine
from engine import GpuReading, MemoryReading, RamReading, machine_limits, values
from engine.checkpoint.quantizers import Obstacle
from tui import cli
from tui.verbs import study
from tui.verbs.checks import kernels, libraries, memory, places, quantizers, speed, terminal
from tui.verbs.checks.finding import Finding, Status

GIB = 2**30
SOUND: dict[str, dict[str, Any]] = {
    "driver": {"version": "570.1", "gpus": 1},
    "torch": {
        "version": "2.10.0+cu128",
        "cuda": "12.8",
        "gpus": [{"name": "H200", "architecture": "sm_90", "known": ["sm_80", "sm_90"]}],
    },
    "transformers": {"version": "5.23.0"},
    "int8": {"version": "0.50", "device": "cuda", "problem": ""},
    "nf4": {"version": "0.50", "device": "cuda", "problem": ""},
}


def named(findings: list[Finding], name: str) -> Finding:
    return next(finding for finding in findings if finding.name == name)


def test_a_sound_machine_has_no_advice() -> None:
    findings = libraries.judge(SOUND)
    assert [finding.status for finding in findings] == [Status.OK] * len(findings)
    assert not any(finding.advice for finding in findings)


@pytest.mark.parametrize(
    ("part", "facts", "name", "status"),
    [
        ("driver", {"problem": "NVML Shared Library Not Found"}, "driver", Status.WARN),
        ("torch", {"problem": "ImportError: libcudart"}, "torch", Status.FAIL),
        ("torch", SOUND["torch"] | {"version": "2.9.1"}, "torch", Status.FAIL),
        ("torch", SOUND["torch"] | {"cuda": "", "gpus": []}, "torch", Status.WARN),
        ("torch", SOUND["torch"] | {"gpus": []}, "torch", Status.WARN),
        ("transformers", {"problem": "ImportError: x"}, "transformers", Status.FAIL),
        ("nf4", {"problem": "RuntimeError: no kernel"}, "nf4", Status.WARN),
    ],
)
def test_what_is_amiss_is_named_with_a_next_step(
    part: str, facts: dict[str, Any], name: str, status: Status
) -> None:
    finding = named(libraries.judge(SOUND | {part: facts}), name)
    assert finding.status is status
    assert finding.advice
    assert str(facts.get("problem", "")) in finding.found


def test_a_gpu_that_torch_has_no_code_for_is_named() -> None:
    gpu = {"name": "B200", "architecture": "sm_100", "known": ["sm_80", "sm_90"]}
    finding = named(libraries.judge(SOUND | {"torch": SOUND["torch"] | {"gpus": [gpu]}}), "torch gpu:0")
    assert finding.status is Status.FAIL
    assert "B200" in finding.found


def test_a_gpu_runs_code_of_an_earlier_one_of_its_family() -> None:
    gpu = {"name": "L4", "architecture": "sm_89", "known": ["sm_80", "sm_90"]}
    findings = libraries.judge(SOUND | {"torch": SOUND["torch"] | {"gpus": [gpu]}})
    assert not any(finding.name == "torch gpu:0" for finding in findings)


def test_libraries_that_end_their_process_are_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    [finding] = libraries.judge(libraries.probe())
    assert finding.status is Status.FAIL


@pytest.mark.parametrize(
    ("environment", "name", "status", "found"),
    [
        ({"TERM": "dumb"}, "terminal", Status.WARN, "lines are shown"),
        ({"TERM": ""}, "terminal", Status.WARN, "not set"),
        ({"TERM": "xterm-256color"}, "colours", Status.OK, "256"),
        ({"TERM": "xterm", "COLORTERM": "truecolor"}, "colours", Status.OK, "16 million"),
        ({"TERM": "vt100"}, "colours", Status.WARN, "8 or 16"),
        ({"NO_COLOR": "1"}, "colours", Status.OK, "NO_COLOR"),
        ({"COLUMNS": "120", "LINES": "40"}, "size", Status.OK, "120 columns, 40 rows"),
        ({"COLUMNS": "80", "LINES": "24"}, "size", Status.OK, "folds"),
        ({"COLUMNS": "10", "LINES": "3"}, "size", Status.WARN, "no room"),
    ],
)
def test_the_terminal_is_described(
    environment: dict[str, str], name: str, status: Status, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("TERM", "COLORTERM", "NO_COLOR", "TMUX"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    finding = named(terminal.check_terminal(), name)
    assert finding.status is status
    assert found in finding.found
    assert bool(finding.advice) is (status is not Status.OK)


@pytest.mark.parametrize(
    ("version", "option", "status", "found"),
    [
        ("tmux 3.4", "external", Status.OK, "passes them on"),
        ("tmux 3.1c", "external", Status.WARN, "stays in tmux's buffer"),
        ("tmux 3.3a", "off", Status.WARN, "set-clipboard is off"),
        ("", "", Status.WARN, "does not answer"),
    ],
)
def test_the_clipboard_inside_tmux_depends_on_tmux(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    option: str,
    status: Status,
    found: str,
) -> None:
    tmux = tmp_path / "tmux"
    tmux.write_text(f'#!/bin/sh\ncase "$1" in -V) echo "{version}";; *) echo "{option}";; esac\n')
    tmux.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("TMUX", "/tmp/tmux-0/default,1,0")
    finding = named(terminal.check_terminal(), "clipboard")
    assert finding.status is status
    assert found in finding.found


def test_folders_are_named_with_their_free_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VRAMBLE_HOME", str(tmp_path / "home"))
    findings = places.check_places()
    assert {finding.name for finding in findings} == {"settings", "sessions", "cache", "state", "sockets"}
    assert all(finding.status is not Status.FAIL for finding in findings)
    assert str(tmp_path / "home") in named(findings, "sessions").found


def test_a_folder_that_is_a_symbolic_link_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "home").symlink_to(tmp_path / "real")
    monkeypatch.setenv("VRAMBLE_HOME", str(tmp_path / "home"))
    finding = named(places.check_places(), "sessions")
    assert finding.status is Status.FAIL
    assert finding.advice


def test_settings_that_others_can_read_are_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VRAMBLE_HOME", str(tmp_path))
    file = tmp_path / "settings.toml"
    file.write_text("")
    file.chmod(0o644)
    finding = named(places.check_places(), "settings")
    assert finding.status is Status.WARN
    assert "chmod 600" in finding.advice


def test_broken_settings_fail_with_their_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VRAMBLE_HOME", str(tmp_path))
    (tmp_path / "settings.toml").write_text("nonsense = 1\n")
    finding = named(places.check_places(), "settings")
    assert finding.status is Status.FAIL
    assert "line 1" in finding.found


def test_gpus_and_ram_are_told_with_what_is_free() -> None:
    gpus = (
        GpuReading(index=0, uuid="GPU-a", label="H200", vram_total=140 * GIB, vram_used=40 * GIB),
        GpuReading(index=1, uuid="GPU-b", label="H200", problem="n/a (driver error 999)"),
    )
    ram = RamReading(total_bytes=GIB, ram_used=GIB // 2, limit="cgroup v1")
    findings = memory.judge(MemoryReading(at=0.0, ram=ram, gpus=gpus))
    assert "100.0 GiB free" in named(findings, "gpu:0").found
    assert "driver error 999" in named(findings, "gpu:1").found
    assert named(findings, "ram").status is Status.WARN
    assert "cgroup v1" in named(findings, "ram").found


def test_a_machine_without_a_gpu_says_why() -> None:
    ram = RamReading(total_bytes=64 * GIB, ram_used=GIB)
    findings = memory.judge(MemoryReading(at=0.0, ram=ram, gpu_note="no NVIDIA driver"))
    assert named(findings, "gpu").status is Status.WARN
    assert "no NVIDIA driver" in named(findings, "gpu").found


def test_a_machine_that_was_never_measured_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VRAMBLE_HOME", str(tmp_path))
    [finding] = speed.check_speed()
    assert finding.status is Status.WARN
    assert "--measure" in finding.advice


def test_measured_limits_are_told_with_their_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VRAMBLE_HOME", str(tmp_path))
    gpus = tuple(
        values.GpuLimits(
            device=f"gpu:{index}",
            vram_bandwidth=4.8e12,
            link_bandwidth=20e9,
            flops={"bfloat16": 7e14},
            op_seconds=6e-6,
            context_bytes=500 << 20,
            is_measured=index == 0,
        )
        for index in range(2)
    )
    limits = msgspec.structs.replace(
        machine_limits(), measured_at=1000.0, ram_bandwidth=12.5e9, disk_bandwidth=3.8e9, gpus=gpus
    )
    findings = speed.judge(limits, now=1000.0 + 2 * 86400)
    machine = named(findings, "limits")
    assert machine.status is Status.OK
    assert all(part in machine.found for part in ("12.5 GB/s", "3.8 GB/s", "2 d ago"))
    assert "700.0 TFLOP/s" in named(findings, "limits gpu:0").found
    assert named(findings, "limits gpu:1").status is Status.WARN


def test_limits_that_were_measured_on_a_busy_machine_are_told_as_such() -> None:
    limits = msgspec.structs.replace(machine_limits(), measured_at=1000.0, waited_share=0.4)
    finding = speed.judge(limits, now=1001.0)[0]
    assert finding.status is Status.WARN
    assert "40%" in finding.found
    assert "--measure" in finding.advice
    assert all(
        "Other" not in f.found for f in speed.judge(msgspec.structs.replace(limits, waited_share=0.0), 1001.0)
    )


@pytest.mark.parametrize(
    ("measured_at", "waited_share", "is_due"),
    [(0.0, 0.0, True), (-5.0, 0.9, False), (-7200.0, 0.9, True), (-7200.0, 0.05, False)],
)
def test_a_machine_is_measured_where_it_never_was_or_again_where_it_was_busy_a_while_ago(
    measured_at: float, waited_share: float, is_due: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = time.time() + measured_at if measured_at else 0.0
    limits = msgspec.structs.replace(machine_limits(), measured_at=at, waited_share=waited_share)
    monkeypatch.setattr(engine, "machine_limits", lambda _: limits)
    budgets = (values.Budget(device="ram", free_bytes=1 << 30),)
    assert study._is_to_be_measured(budgets) is is_due
    imaginary = (*budgets, values.Budget(device="gpu:0", free_bytes=1 << 30))
    assert study._is_to_be_measured(imaginary) is False


@pytest.mark.parametrize(("broken", "code"), [({}, 0), ({"torch": {"problem": "ImportError: x"}}, 1)])
def test_the_exit_code_says_whether_all_works(
    broken: dict[str, dict[str, Any]],
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("VRAMBLE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(libraries, "probe", lambda: SOUND | broken)
    assert cli.run(["doctor", "--json"]) == code
    document = json.loads(capsys.readouterr().out)
    assert document["works"] is (code == 0)
    assert {"name", "status", "found", "advice"} == set(document["checks"][0])
    assert cli.run(["doctor"]) == code
    assert "torch" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("compilers", "is_off", "status", "said"),
    [
        (["/usr/bin/g++", "/usr/bin/c++"], False, Status.OK, "/usr/bin/g++"),
        ([], False, Status.WARN, "twice as slowly"),
        (["/usr/bin/g++"], True, Status.WARN, "VRAMBLE_KERNELS"),
    ],
)
def test_a_missing_compiler_is_named_with_what_it_costs(
    compilers: list[str], is_off: bool, status: Status, said: str
) -> None:
    finding = kernels.judge(compilers, is_off=is_off)
    assert (finding.name, finding.status) == ("kernels", status)
    assert said in finding.found
    assert bool(finding.advice) == (status is Status.WARN)


def test_compilers_are_looked_for_on_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VRAMBLE_KERNELS")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert kernels.check_kernels()[0].status is Status.WARN
    for name in ("clang++", "g++"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o755)
    assert str(tmp_path / "g++") in kernels.check_kernels()[0].found


def state(method: str, lack: str = "", *versions: str, is_unpacked: bool = False) -> engine.QuantizerState:
    found = Obstacle(lack, "`pip install it`") if lack else None
    return engine.QuantizerState(method, versions, is_unpacked, found)


def test_quantizers_that_work_and_common_ones_that_do_not_are_named() -> None:
    findings = quantizers.judge(
        [
            state("bitsandbytes", "", "bitsandbytes 0.50"),
            state("fp8", is_unpacked=True),
            state("gptq", "gptqmodel"),
            state("awq", "", "gptqmodel 5.0"),
            state("hqq", "hqq"),
        ]
    )
    assert [finding.name for finding in findings] == ["fp8", "gptq", "awq", "other formats"]
    assert named(findings, "fp8").found.startswith("Unpacked while loading;")
    assert named(findings, "gptq").status is Status.WARN
    assert named(findings, "gptq").advice == "`pip install it`"
    assert named(findings, "awq").found == "Loaded as it is stored by gptqmodel 5.0."
    assert named(findings, "other formats").found.endswith("rare: hqq.")


def test_this_machine_s_quantizers_are_judged_without_importing_one() -> None:
    assert {"fp8", "mxfp4", "gptq"} <= {finding.name for finding in quantizers.check_quantizers()}
