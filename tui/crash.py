"""An exception that nobody expected: one sentence for the person, a report in a private file."""

from __future__ import annotations

import time
import traceback

from tui.paths import FolderError, state_folder, write_private


def tell(error: BaseException) -> str:
    """Write a report and say where it is.

    The report names places in the code and no values: those may be a prompt or a secret.
    """
    kind = type(error).__name__
    lines = [*traceback.format_tb(error.__traceback__), kind]
    try:
        file = state_folder() / f"crash-{time.strftime('%Y%m%d-%H%M%S')}.txt"
        write_private(file, "".join(lines) + "\n")
    except (OSError, FolderError):
        return f"vramble met {kind} and had to end; what was said is saved."
    return f"vramble met {kind} and had to end; what was said is saved. The report is in {file}."
