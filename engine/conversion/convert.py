"""The parent's side of a conversion: starts its process, hears it, and cleans up behind it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from engine import errors
from engine.conversion.sources import pickles_of, require_room
from engine.conversion.staging import Staging
from engine.conversion.told import AnyTold, Converted, ConvertFailed, ConvertProgress, decode
from engine.packages import environment_for_modules

_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


def convert_pickles(folder: Path, on_progress: Callable[[ConvertProgress], None]) -> Converted:
    """Write safetensors beside a model's pickles, in a process of its own; the person was asked before.

    However it ends without them, by an error, a kill or Ctrl+C, nothing of them is left.

    Args:
        folder: the model's folder.
        on_progress: is told how far it is; what it raises ends the conversion.

    Raises:
        EngineError: there is nothing to convert, no room, a pickle is unsafe, or the process ended.
    """
    require_room(pickles_of(folder))
    process = _spawn(folder)
    try:
        told = _follow(process, on_progress)
    finally:
        process.kill()
        process.wait()
        _close(process)
        with contextlib.suppress(errors.DownloadBusy, OSError):
            Staging(folder).sweep()
    if isinstance(told, Converted):
        return told
    raise _error(told, process.returncode)


def _spawn(folder: Path) -> subprocess.Popen[bytes]:
    # A session of its own keeps the terminal's Ctrl+C from it.
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "engine.conversion.child", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=environment_for_modules() | _OFFLINE,
    )


def _follow(
    process: subprocess.Popen[bytes], on_progress: Callable[[ConvertProgress], None]
) -> AnyTold | None:
    """Hear it until it ends; the last thing it told, None where that was nonsense or nothing."""
    last: AnyTold | None = None
    for line in process.stdout or ():
        try:
            last = decode(line)
        except msgspec.MsgspecError:
            return None
        if isinstance(last, ConvertProgress):
            on_progress(last)
    process.wait()
    return last


def _close(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def _error(told: AnyTold | None, code: int) -> errors.EngineError:
    if isinstance(told, ConvertFailed):
        kind = getattr(errors, told.error, errors.EngineFault)
        known: errors.EngineError = kind(told.message, told.hint)
        return known
    cause = f"signal {-code}" if code < 0 else f"exit code {code}"
    message = f"The conversion's process ended ({cause}); nothing of it is left."
    return errors.EngineDied(message, "Free some memory if there was little of it, and convert again.")
