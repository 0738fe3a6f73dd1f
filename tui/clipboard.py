"""Copying over SSH: through tmux, else OSC 52 to the terminal, and a file where neither is sure to arrive."""

from __future__ import annotations

import base64
import os
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MOST_OSC52_BYTES = 100 * 1024
"""A longer sequence is cut or refused by terminals."""

_TMUX_SECONDS = 2


def osc52(text: str) -> str | None:
    """The sequence that puts text on the terminal's clipboard; None when it would be too long."""
    sequence = f"\x1b]52;c;{base64.b64encode(text.encode()).decode()}\a"
    return sequence if len(sequence) <= MOST_OSC52_BYTES else None


def copy(text: str, write: Callable[[str], None], file: Path) -> str:
    """Copy text on the surest way there is, and say in one sentence which one was taken.

    Args:
        text: what to copy.
        write: writes a control sequence to the terminal.
        file: where the text is kept when the clipboard cannot be relied on; its folder exists.
    """
    if os.environ.get("TMUX") and _copy_through_tmux(text):
        return f"Copied {len(text):,} characters through tmux; paste with prefix ]."
    kept = _copy_to_file(text, file)
    sequence = osc52(text)
    if sequence is None:
        return f"Too long for the terminal's clipboard. {kept}"
    write(sequence)
    return f"Sent {len(text):,} characters to the terminal's clipboard (OSC 52). {kept}"


def _copy_through_tmux(text: str) -> bool:
    return any(_run_tmux(text, options) for options in (["-w"], []))


def _run_tmux(text: str, options: list[str]) -> bool:
    command = ["tmux", "load-buffer", *options, "-"]
    try:
        done = subprocess.run(
            command, input=text.encode(), capture_output=True, timeout=_TMUX_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _copy_to_file(text: str, file: Path) -> str:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "w", encoding="utf-8") as kept:
            os.fchmod(descriptor, 0o600)
            kept.write(text)
    except OSError as error:
        return f"It could not be written to {file}: {error.strerror}."
    return f"It is also in {file}."
