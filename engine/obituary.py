"""Why the engine process ended, in words: exit code, signal, or the kernel's OOM killer."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path

from engine.values import Value

_ROOT = Path("/")


class Obituary(Value, frozen=True, kw_only=True):
    """The end of one engine process.

    Attributes:
        message: what happened and why, one sentence.
        hint: the next step.
        exit_code: of the process; negative is a signal.
        out_of_memory: the kernel's OOM killer did it, as far as can be told.
    """

    message: str
    hint: str = ""
    exit_code: int = 0
    out_of_memory: bool = False


def count_oom_kills(root: Path = _ROOT) -> int | None:
    """OOM kills that the kernel and this process's cgroup have counted; None where neither tells.

    Sources: `oom_kill` of /proc/vmstat, of cgroup v2's memory.events and of v1's memory.oom_control.
    """
    counts = [_read_count(path) for path in (root / "proc/vmstat", *_cgroup_files(root))]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def write_obituary(exit_code: int, kills_before: int | None, kills_after: int | None) -> Obituary:
    """Name the cause from the exit code and the OOM counters before and after."""
    if exit_code == -signal.SIGKILL:
        return _killed(exit_code, kills_before, kills_after)
    if exit_code == -signal.SIGBUS:
        message = (
            "A file of the model became shorter, or its disk failed: the engine process crashed with SIGBUS."
        )
    elif exit_code < 0:
        message = f"The engine process crashed with {_signal_name(-exit_code)}."
    else:
        message = f"The engine process ended with exit code {exit_code}."
    return Obituary(message=message, hint="Load the model again; the log has more.", exit_code=exit_code)


def _killed(exit_code: int, kills_before: int | None, kills_after: int | None) -> Obituary:
    is_counted = kills_before is not None and kills_after is not None
    if is_counted and kills_after == kills_before:
        message = "The engine process was killed by SIGKILL from outside."
        return Obituary(message=message, hint="Load the model again.", exit_code=exit_code)
    doubt = "" if is_counted else ", as far as can be told"
    return Obituary(
        message=f"The kernel ran out of memory and killed the engine process{doubt}.",
        hint="Load with a shorter context, nf4, or a smaller RAM budget.",
        exit_code=exit_code,
        out_of_memory=True,
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _cgroup_files(root: Path) -> list[Path]:
    """The counters of this process's cgroups; a container may see its own cgroup at the mount's root."""
    files = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if not controllers:
            files.append(_first_file(root / "sys/fs/cgroup", group, "memory.events"))
        elif "memory" in controllers.split(","):
            files.append(_first_file(root / "sys/fs/cgroup/memory", group, "memory.oom_control"))
    return files


def _first_file(mount: Path, group: str, name: str) -> Path:
    own = mount / group.lstrip("/") / name
    return own if own.exists() else mount / name


def _read_count(path: Path) -> int | None:
    for line in _read(path).splitlines():
        key, _, value = line.partition(" ")
        if key == "oom_kill" and value.strip().isdigit():
            return int(value)
    return None


def _read(path: Path) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return path.read_text()
    return ""
