"""Compile the kernels with whatever compiler the machine has, once per source, compiler and processor."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

from engine.compilers import VARIABLE, found_compilers, kernels_are_off
from engine.plan.kept import scratch_folder

SOURCES = Path(__file__).parent
COMPILE_SECONDS = 120.0
VERSION_SECONDS = 10.0
LEAST_PRIORITY = 19
FLAGS = (
    "-std=c++17",
    "-O3",
    "-march=native",
    "-fopenmp",
    "-fno-math-errno",
    "-fPIC",
    "-shared",
    "-Wno-psabi",
)
OPENMP = re.compile(r"/\S*/lib(?:gomp|iomp5|omp)[^/\s]*\.so\S*")


class Missing(StrEnum):
    """Why there are no kernels: a sentence for the person, empty where they asked for none."""

    ASKED = ""
    COMPILER = (
        "No C++ compiler was found: tokens are computed by torch, up to twice as slowly. "
        "Install g++ and start vramble again."
    )
    BUILD = (
        "The C++ compiler could not build vramble's kernels: tokens are computed by torch, up to twice as "
        "slowly. A newer g++ may help."
    )
    LATE = (
        "vramble's kernels are still being compiled: tokens are computed by torch, up to twice as slowly. "
        "A model that is loaded a minute later uses them."
    )
    TRUST = (
        "vramble's kernels do not compute on this machine what torch does: torch computes tokens, up to "
        "twice as slowly."
    )


def builds_folder() -> Path | None:
    """Return where builds are kept; None where VRAMBLE_KERNELS is "off"."""
    if kernels_are_off():
        return None
    named = os.environ.get(VARIABLE)
    return Path(named) if named else scratch_folder() / "kernels"


def built_library(folder: Path) -> Path | Missing:
    """Return the compiled kernels, built now if they were not before, or why there are none.

    Args:
        folder: where builds are kept; made private to this user.
    """
    compilers = found_compilers()
    if not compilers:
        return Missing.COMPILER
    openmp = loaded_openmp()
    if openmp is None or not _is_private(folder):
        return Missing.BUILD
    builds = (_built_by(compiler, openmp, folder) for compiler in compilers)
    return next((library for library in builds if library is not None), Missing.BUILD)


def loaded_openmp() -> Path | None:
    """Return the OpenMP runtime that torch has brought into this process: two of them would fight."""
    found = OPENMP.search(Path("/proc/self/maps").read_text(encoding="utf-8"))
    return Path(found[0]) if found else None


def _is_private(folder: Path) -> bool:
    """Make the folder; False where somebody else could have put a library into it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return False
    own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
    return own and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _built_by(compiler: str, openmp: Path, folder: Path) -> Path | None:
    version = _output([compiler, "--version"], VERSION_SECONDS)
    if version is None:
        return None
    library = folder / f"kernels-{_key(version, openmp)}.so"
    with _alone(library.with_suffix(".lock")) as lock:
        return library if library.exists() or _compile(compiler, openmp, library, lock) else None


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[int]:
    """Let the processes of this user compile one after the other: the first one does it for all."""
    with path.open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _compile(compiler: str, openmp: Path, library: Path, lock: int) -> bool:
    """Compile into a folder of its own and move the result, so that a build under way is never loaded."""
    for left in library.parent.glob(f"{library.stem}-*"):  # of a build that was killed: nobody else is here
        shutil.rmtree(left, ignore_errors=True)
    unfinished = tempfile.mkdtemp(prefix=f"{library.stem}-", dir=library.parent)
    fresh = Path(unfinished) / library.name
    objects = fresh.with_suffix(".o")
    flags = [flag for flag in FLAGS if flag != "-shared"]
    return _succeed(
        lock,
        [compiler, *flags, "-c", str(SOURCES / "program.cpp"), "-o", str(objects)],
        [compiler, "-shared", str(objects), str(openmp), "-Wl,-z,defs", "-o", str(fresh)],
        ["/bin/mv", str(fresh), str(library)],
        ["/bin/rm", "-r", unfinished],
    )


def _succeed(lock: int, *commands: list[str]) -> bool:
    """Run commands one after the other; they go on, and hold the lock, where this process ends before.

    Else a machine on which only short questions are asked would begin to compile with each, and never end.
    They come last where cores are wanted: threads that wait for each other wait for the slowest.
    """
    line = " && ".join(map(shlex.join, commands))
    with subprocess.Popen(
        ["/bin/sh", "-c", line],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(lock,),
        start_new_session=True,
    ) as building:
        with contextlib.suppress(OSError):  # it has ended already
            os.setpriority(os.PRIO_PGRP, building.pid, LEAST_PRIORITY)
        try:
            return building.wait(COMPILE_SECONDS) == 0
        except subprocess.TimeoutExpired:
            os.killpg(building.pid, signal.SIGKILL)
            return False


def _output(command: list[str], seconds: float) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _key(version: str, openmp: Path) -> str:
    """Name a build by everything that it depends on."""
    parts = [version, str(openmp), " ".join(FLAGS), _cpu_flags()]
    parts += [path.read_text(encoding="utf-8") for path in sorted(SOURCES.glob("*.[ch]*"))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _cpu_flags() -> str:
    try:
        described = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""
    lines = (line for line in described.splitlines() if line.startswith(("flags", "Features", "model name")))
    return "\n".join(sorted(set(lines)))
