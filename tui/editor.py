"""The prompt in the person's own editor."""

from __future__ import annotations

import asyncio
import os
import shlex
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from textual.app import SuspendNotSupported

from tui.paths import FolderError, state_folder
from tui.safe_text import safe

if TYPE_CHECKING:
    from tui.app import VrambleApp


async def edit_text(app: VrambleApp, text: str) -> str | None:
    """Have text edited while the screen makes room.

    Returns:
        What was written; None, and a notice, when it could not be done.
    """
    try:
        return await _edit_in_file(app, text)
    except (OSError, ValueError, FolderError, SuspendNotSupported) as error:
        app.say(f"The editor could not be opened: {error}. Set EDITOR to its command.", is_warning=True)
        return None


async def _edit_in_file(app: VrambleApp, text: str) -> str | None:
    # 0600, in a folder of ours: prompts never lie where others can read them.
    descriptor, name = tempfile.mkstemp(prefix="prompt-", suffix=".md", dir=state_folder())
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    try:
        with app.suspend():
            exit_code = await _run_editor(name)
        if exit_code:
            app.say(f"The editor ended with exit code {exit_code}; the prompt is as it was.", is_warning=True)
            return None
        return _read(name)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)


def _read(name: str) -> str:
    return safe(Path(name).read_text(encoding="utf-8", errors="replace")).rstrip("\n")


async def _run_editor(name: str) -> int:
    command = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
    process = await asyncio.create_subprocess_exec(*command, name)
    return await process.wait()
