"""`--trust-remote-code`: a model's own code runs without a question, and stderr says what runs."""

from __future__ import annotations

import argparse
from pathlib import Path

import engine
from engine import errors, values
from tui.verbs import output


def add_trust_flag(parser: argparse.ArgumentParser) -> None:
    """Add the flag."""
    parser.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="run the code that the model brings, unread; its files and hashes are told on stderr",
    )


def trusted_code(
    folder: Path, *, is_trusted: bool, adapter: Path | None = None
) -> tuple[values.CodeFile, ...]:
    """The files of a model's own code that may run, after they were told; none where it needs none.

    Args:
        folder: of the model.
        is_trusted: the flag was given.
        adapter: folder of the one that is merged into the model.

    Raises:
        NeedsConsent: it needs code, and the flag was not given.
        CheckpointError: the folder cannot be loaded, or its code cannot be found.
    """
    try:
        engine.inspect_folder(folder, adapter=adapter)
    except errors.NeedsConsent:
        if not is_trusted:
            raise
        return _told(folder)
    return ()


def _told(folder: Path) -> tuple[values.CodeFile, ...]:
    origins = [origin for origin in engine.code_of(folder) if origin.files]
    for origin in origins:
        commit = f" at {origin.revision}" if origin.revision else ""
        output.complain(f"Running code of {origin.repository}{commit}, as --trust-remote-code says:")
        for file in origin.files:
            output.complain(f"  {file.name} sha256:{file.sha256}")
    return tuple(file for origin in origins for file in origin.files)
