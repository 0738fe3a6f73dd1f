"""Building the kernels: with no compiler, a broken one, a foreign library, and in another process's way."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch

from engine.compilers import VARIABLE, found_compilers
from engine.hf import backend
from engine.hf.native import build, foundry, trial
from engine.hf.native.build import Missing, builds_folder, built_library
from engine.hf.native.foundry import Foundry, trusted
from engine.hf.native.library import Kernels
from engine.values import FinishReason
from tests import tiny_models
from tests.engine.hf.talk import Talk
from tests.pty_driver import gone_within

HARMLESS = 'extern "C" int vramble_run() { return 0; }'
OTHER_VERSION = """
extern "C" {
int vramble_run() { return 0; }
float vramble_read() { return 0; }
int vramble_abilities() { return 0; }
int vramble_sizes(int which) { return 8 + which; }
}
"""


SLOW = """
test "$1" = --version && echo slow && exit 0
echo run >> {log}
sleep 0.7
for last; do :; done
: > "$last"
"""
BUILDER = """
import sys
from pathlib import Path
from engine.hf.native import build
build.loaded_openmp = lambda: Path("/none")
build.built_library(Path(sys.argv[1]))
"""


def nothing() -> None:
    pass


def script(folder: Path, body: str) -> None:
    """Put a g++ of our own into a folder."""
    folder.mkdir()
    compiler = folder / "g++"
    compiler.write_text(f"#!/bin/sh\n{body}\n")
    compiler.chmod(0o755)


def answers(note: str) -> None:
    """A model loads, says plainly that torch computes it, and talks."""
    talk = Talk(tiny_models.checkpoint("llama"))
    assert talk.inner.runner.decoder is None
    assert [found for found in talk.loaded.notes if "torch" in found] == ([note] if note else [])
    assert talk.ask("Why?").finished.finish_reason is FinishReason.LENGTH
    talk.backend.unload()


def test_switched_off_torch_computes_and_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "off")
    assert builds_folder() is None
    answers("")


def test_without_a_compiler_a_note_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "kernels"))
    monkeypatch.setenv("PATH", str(tmp_path))
    answers(Missing.COMPILER.value)
    assert "g++" in Missing.COMPILER


@pytest.mark.parametrize("body", ["echo broken >&2; exit 1", 'test "$1" = --version && exit 0; exit 1'])
def test_a_compiler_that_fails_is_one_note(
    body: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script(tmp_path / "bin", body)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "kernels"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    answers(Missing.BUILD.value)
    assert not list((tmp_path / "kernels").glob("*.so"))


def test_a_build_goes_on_when_the_process_that_began_it_ends(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log, folder = tmp_path / "log", tmp_path / "kernels"
    script(tmp_path / "bin", SLOW.format(log=log))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(build, "loaded_openmp", lambda: Path("/none"))
    with subprocess.Popen([sys.executable, "-c", BUILDER, folder]) as builder:
        while not log.exists():
            assert builder.poll() is None
            time.sleep(0.01)
        builder.kill()
    library = built_library(folder)  # waits for the lock, which the build still holds
    assert isinstance(library, Path)
    assert library.exists()
    assert log.read_text().split() == ["run", "run"]  # to compile and to link, once each
    assert not list(folder.glob("kernels-*-*"))


def test_a_build_comes_last_and_one_that_never_ends_is_killed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    endless = f"echo $$ >> {log}.pid; sleep 0.2; nice > {log}.nice; sleep 600"
    script(tmp_path / "bin", SLOW.format(log=log).replace("sleep 0.7", endless))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(build, "loaded_openmp", lambda: Path("/none"))
    monkeypatch.setattr(build, "COMPILE_SECONDS", 0.5)
    monkeypatch.setattr(build, "found_compilers", lambda: (str(tmp_path / "bin" / "g++"),))
    assert built_library(tmp_path / "kernels") is Missing.BUILD
    assert log.with_name("log.nice").read_text().strip() == "19"
    with contextlib.suppress(psutil.NoSuchProcess):
        assert gone_within([psutil.Process(int(log.with_name("log.pid").read_text()))], 5)


def test_a_build_that_takes_too_long_is_given_up_for_this_load(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    release = threading.Event()

    def slow(_: Path) -> Missing:
        release.wait(60)
        return Missing.BUILD

    monkeypatch.setattr(foundry, "built_library", slow)
    monkeypatch.setattr(foundry, "LONGEST_WAIT_SECONDS", 0.1)
    building = Foundry()
    assert building.kernels(nothing) is Missing.LATE
    release.set()
    monkeypatch.setattr(foundry, "LONGEST_WAIT_SECONDS", 60.0)
    assert building.kernels(nothing) is Missing.BUILD


def test_a_small_model_is_not_held_up_by_a_build(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def slow(_: Path) -> Missing:
        release.wait(60)
        return Missing.BUILD

    monkeypatch.setattr(foundry, "built_library", slow)
    monkeypatch.setattr(backend, "WORTH_WAITING_BYTES", 64 << 20)
    monkeypatch.setattr(foundry, "LONGEST_WAIT_SECONDS", 3600.0)
    talk = Talk(tiny_models.checkpoint("llama"))  # would wait for an hour
    assert talk.inner.runner.decoder is None
    assert torch.get_num_threads() == max(1, talk.backend._threads - 1)
    talk.backend.unload()
    release.set()


def test_a_load_that_waits_for_a_build_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def slow(_: Path) -> Missing:
        release.wait(60)
        return Missing.BUILD

    def cancelled() -> None:
        raise InterruptedError

    monkeypatch.setattr(foundry, "built_library", slow)
    building = Foundry()
    with pytest.raises(InterruptedError):
        building.kernels(cancelled)
    release.set()


def compiled(source: str, folder: Path) -> Path:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("needs g++")
    (folder / "other.cpp").write_text(source)
    library = folder / "other.so"
    subprocess.run([compiler, "-shared", "-fPIC", folder / "other.cpp", "-o", library], check=True)
    return library


@pytest.mark.parametrize("source", [HARMLESS, OTHER_VERSION])
def test_a_library_of_another_version_is_refused(source: str, tmp_path: Path) -> None:
    assert trusted(compiled(source, tmp_path)) is Missing.BUILD


def test_a_file_that_is_no_library_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kernels.so").write_bytes(b"no library")
    assert trusted(tmp_path / "kernels.so") is Missing.BUILD


def test_kernels_that_compute_something_else_are_not_trusted(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Kernels, "run", lambda *_: True)
    library = built_library(Path(builds_folder() or ""))
    assert isinstance(library, Path)
    assert trusted(library) is Missing.TRUST


def test_a_folder_that_others_may_write_to_is_not_used(tmp_path: Path) -> None:
    if not found_compilers():
        pytest.skip("needs a compiler")
    folder = tmp_path / "kernels"
    folder.mkdir()
    folder.chmod(0o777)
    assert built_library(folder) is Missing.BUILD
    folder.chmod(0o700)
    linked = tmp_path / "link"
    linked.symlink_to(folder)
    assert built_library(linked) is Missing.BUILD


def test_builds_lie_in_our_own_cache_unless_a_folder_is_named(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(VARIABLE)
    assert builds_folder() == own_cache / "cache" / "kernels"
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert builds_folder() == tmp_path


def test_kernels_that_take_longer_leave_the_model_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "MOST_TIMES", 0.0)
    talk = Talk(tiny_models.checkpoint("llama"))
    assert talk.inner.runner.decoder is None
    assert trial.TORCH in talk.loaded.notes
    assert talk.ask("Why?").finished.finish_reason is not FinishReason.FAILED
