"""How much RAM an engine process holds, phase by phase, and a cgroup that holds it to a limit."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SAMPLES_PER_SECOND = 10
"""The kernel keeps the peaks itself; looking more often takes a core from the model that is watched."""
CGROUP = Path("/sys/fs/cgroup/memory")
_PEAK_RESET = "5"
_KIB = 1024


class Resident(NamedTuple):
    """Bytes of a process that lie in RAM.

    Attributes:
        anonymous: not backed by a file.
        file: pages of mapped files.
        peak: the highest sum of both since the kernel's mark was last reset.
    """

    anonymous: int
    file: int
    peak: int

    @property
    def total(self) -> int:
        """Both kinds together."""
        return self.anonymous + self.file


class Peak(NamedTuple):
    """The most that one phase held.

    Attributes:
        total: by the kernel's own mark, which misses nothing between samples.
        anonymous: of the highest sample.
        file: of the highest sample.
    """

    total: int
    anonymous: int
    file: int


class Watch:
    """Samples a process until it is told to stop; peaks per phase."""

    def __init__(self, pid: int) -> None:
        """Begin with a phase that has no name.

        Args:
            pid: of the process.
        """
        self._pid = pid
        self._phase = ""
        self._highest: dict[str, Resident] = {}
        self._marks: dict[str, int] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def enter(self, phase: str) -> None:
        """Close the phase before with the kernel's mark, and reset that."""
        with self._lock, contextlib.suppress(OSError):
            self._close()
            Path(f"/proc/{self._pid}/clear_refs").write_text(_PEAK_RESET)
        self._phase = phase

    def stop(self) -> dict[str, Peak]:
        """End, and return the peaks by phase."""
        with self._lock, contextlib.suppress(OSError):
            self._close()
        self._stopped.set()
        self._thread.join()
        return {
            phase: Peak(max(self._marks.get(phase, 0), at.total), at.anonymous, at.file)
            for phase, at in self._highest.items()
            if phase
        }

    def _close(self) -> None:
        self._marks[self._phase] = max(self._marks.get(self._phase, 0), resident(self._pid).peak)

    def _run(self) -> None:
        while not self._stopped.wait(1 / SAMPLES_PER_SECOND):
            with self._lock, contextlib.suppress(OSError, KeyError):
                now = resident(self._pid)
                before = self._highest.get(self._phase)
                if before is None or now.total > before.total:
                    self._highest[self._phase] = now


def resident(pid: int) -> Resident:
    """What a process holds now. Raises OSError when it is gone, KeyError when it is about to be."""
    fields = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
    )
    sizes = {name: int(fields[name].split()[0]) * _KIB for name in ("RssAnon", "RssFile", "VmHWM")}
    return Resident(sizes["RssAnon"], sizes["RssFile"], sizes["VmHWM"])


class Cage:
    """A memory cgroup (v1) for one process; does nothing where none can be made.

    Attributes:
        folder: of the group; None where there is none.
    """

    def __init__(self) -> None:
        """Make the group, where this process may."""
        folder = CGROUP / f"vramble-bench-{os.getpid()}"
        try:
            folder.mkdir(exist_ok=True)
            self.folder: Path | None = folder
        except OSError:
            self.folder = None

    def hold(self, pid: int) -> None:
        """Take a process in; its children stay with it."""
        if self.folder is not None:
            (self.folder / "cgroup.procs").write_text(str(pid))

    def limit(self, limit_bytes: int | None) -> None:
        """Hold all that is inside to a limit; None lifts it."""
        if self.folder is None:
            return
        value = -1 if limit_bytes is None else limit_bytes
        (self.folder / "memory.limit_in_bytes").write_text(str(value))

    def empty(self) -> None:
        """Give back the page cache that the group was charged with."""
        if self.folder is not None:
            with contextlib.suppress(OSError):
                (self.folder / "memory.force_empty").write_text("0")

    def kills(self) -> int:
        """How many processes the kernel has killed in the group for want of memory."""
        if self.folder is None:
            return 0
        lines = (self.folder / "memory.oom_control").read_text().splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)

    def remove(self) -> None:
        """Give the group back once its processes have ended."""
        if self.folder is None:
            return
        for _ in range(50):
            with contextlib.suppress(OSError):
                self.folder.rmdir()
                return
            time.sleep(0.1)


@contextlib.contextmanager
def cage() -> Iterator[Cage]:
    """A group that is gone afterwards."""
    group = Cage()
    try:
        yield group
    finally:
        group.remove()
