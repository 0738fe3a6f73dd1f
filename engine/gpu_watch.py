"""A thread that asks NVML, so that a driver that hangs keeps only this thread waiting."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import msgspec

from engine.nvml import NO_DRIVER, GpuState, Nvml

_log = logging.getLogger(__name__)

RETRY_SECONDS = 5.0
"""Between attempts while the driver fails."""
STALE_SECONDS = 3.0
"""After which a reading no longer counts as the present."""
_LOG_SECONDS = 60.0
_JOIN_SECONDS = 1.0
_SILENT = "n/a (the driver does not answer)"


class GpuWatch:
    """Keeps the last answer of NVML; asking for it never waits for the driver."""

    def __init__(self, pid_of: Callable[[], int | None], interval: float) -> None:
        """Prepare; the driver is asked only after `start`.

        Args:
            pid_of: the engine's process now.
            interval: seconds between questions.
        """
        self._pid_of = pid_of
        self._interval = interval
        self._nvml = Nvml()
        self._state = GpuState((), "")
        self._asked_at: float | None = None
        self._logged_at: float | None = None
        self._answered = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nvml", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def close(self, *, wait: bool = True) -> None:
        """Stop asking; a call that hangs is left to its daemon thread.

        Args:
            wait: for the thread, a second at most.
        """
        self._closed.set()
        if wait and self._thread.is_alive():
            self._thread.join(_JOIN_SECONDS)

    def first(self, timeout: float) -> GpuState:
        """The first answer, waited for `timeout` seconds at most."""
        answered = self._answered.wait(timeout)
        return self._state if answered else GpuState((), _SILENT)

    def latest(self) -> GpuState:
        """The last answer; marked as missing when the driver has been silent since."""
        asked_at, state = self._asked_at, self._state
        if asked_at is None or time.monotonic() - asked_at <= STALE_SECONDS:
            return state
        gpus = tuple(msgspec.structs.replace(gpu, problem=_SILENT) for gpu in state.gpus)
        return GpuState(gpus, _SILENT)

    def _run(self) -> None:
        while not self._closed.is_set():
            self._asked_at = time.monotonic()
            self._state = self._nvml.read(self._pid_of())
            self._asked_at = None
            self._answered.set()
            problem = self._problem()
            self._log(problem)
            self._closed.wait(RETRY_SECONDS if problem else self._interval)
        self._nvml.disconnect()

    def _problem(self) -> str:
        failing = (gpu.problem for gpu in self._state.gpus if gpu.problem)
        return next(failing, "" if self._state.gpus else self._state.note)

    def _log(self, problem: str) -> None:
        now = time.monotonic()
        is_due = self._logged_at is None or now - self._logged_at >= _LOG_SECONDS
        if problem and problem != NO_DRIVER and is_due and not self._closed.is_set():
            self._logged_at = now
            _log.warning("NVML: %s", problem)
