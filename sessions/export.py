"""A session as Markdown to read, or as JSON that `parse_record` reads back without loss."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from sessions.errors import StorageFailed
from sessions.files import create_file
from sessions.values import TurnState

if TYPE_CHECKING:
    from pathlib import Path

    from sessions.values import Session, SessionRecord, Turn

FORMAT = "vramble session"
FORMAT_VERSION = 1
# What could drive a terminal that the file is shown on, or turn its lines around.
_CONTROLS = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069]"
)
_ENDINGS = {
    TurnState.STREAMING: "still being written",
    TurnState.STOPPED: "stopped",
    TurnState.INTERRUPTED: "interrupted",
    TurnState.FAILED: "failed",
}


def to_json(record: SessionRecord) -> str:
    """All branches of a session as one JSON document; control characters are escaped."""
    document = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "session": _session_fields(record.session),
        "turns": [_turn_fields(turn) for turn in record.turns],
    }
    text = json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False)
    return re.sub("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]", _escaped, text) + "\n"


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def _session_fields(session: Session) -> dict[str, object]:
    fields = asdict(session)
    del fields["turn_count"]
    return fields


def _turn_fields(turn: Turn) -> dict[str, object]:
    fields: dict[str, object] = asdict(turn)
    del fields["session_id"], fields["counts"]
    return fields | asdict(turn.counts)


def to_markdown(record: SessionRecord) -> str:
    """The active branch of a session as Markdown, without control characters."""
    session = record.session
    parts = [f"# {session.title or 'Untitled'}", _date(session.created_at)]
    if session.system_prompt:
        parts += ["## system", session.system_prompt]
    for turn in record.branch():
        parts += _turn_parts(turn)
    return _CONTROLS.sub("\ufffd", "\n\n".join(part for part in parts if part)) + "\n"


def _turn_parts(turn: Turn) -> list[str]:
    parts = ["## you", turn.prompt, f"## {' '.join(turn.model.split()) or 'model'}"]
    if turn.reasoning:
        quoted = "\n".join(f"> {line}" for line in turn.reasoning.splitlines())
        parts += ["> *reasoning*\n>\n" + quoted]
    parts.append(turn.reply)
    if turn.state in _ENDINGS:
        parts.append(f"*({' '.join([_ENDINGS[turn.state] + ':' * bool(turn.note), *turn.note.split()])})*")
    return parts


def _date(seconds: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):
        return ""


def write_export(path: Path, text: str, replace: bool = False) -> None:
    """Write an export that only its owner can read, all of it or nothing.

    Args:
        path: the file.
        text: what to write.
        replace: take the place of a file of that name.

    Raises:
        StorageFailed: it cannot be written, or the name is taken.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        _write(unfinished, text)
        if replace:
            unfinished.replace(path)
        else:
            os.link(unfinished, path)
    except OSError as error:
        raise StorageFailed(f"{path} cannot be written: {error.strerror}.", "Choose another name.") from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


def _write(path: Path, text: str) -> None:
    with os.fdopen(create_file(path), "wb") as file:
        file.write(text.encode("utf-8", "replace"))
        file.flush()
        os.fsync(file.fileno())
