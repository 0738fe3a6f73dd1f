"""What sub-commands write: text and JSON on stdout, sentences on stderr."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from typing import Any, TextIO, cast

import msgspec

from tui.safe_text import safe, safe_line

_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_INVISIBLE_IN_JSON = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def open_streams() -> None:
    """Put an empty stream where the caller closed stdin, stdout or stderr."""
    sys.stdin = sys.stdin or _nowhere("r")
    sys.stdout = sys.stdout or _nowhere("w")
    sys.stderr = sys.stderr or _nowhere("w")


def _nowhere(mode: str) -> TextIO:
    return cast("TextIO", open(os.devnull, mode, encoding="utf-8"))  # lives as long as the process


def use_unicode() -> None:
    """Let stdout and stderr carry every character, whatever the locale says.

    A locale without Unicode would turn Chinese into a crash; UTF-8 is what terminals read today.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            unicode = stream.encoding.lower().startswith(("utf", "gb18030"))
            stream.reconfigure(encoding=None if unicode else "utf-8", errors="replace")


def without_controls(text: str) -> str:
    """Drop C0 and C1 but newline and tab, and replace lone surrogates; all else is untouched."""
    return _SURROGATES.sub("\ufffd", _CONTROLS.sub("", text))


def write_text(text: str, stream: TextIO | None = None) -> None:
    """Write at once to stdout: made safe on a terminal, without control characters elsewhere."""
    stream = stream or sys.stdout
    stream.write(safe(text) if stream.isatty() else without_controls(text))
    stream.flush()


def write_line(text: str = "") -> None:
    """Write one line to stdout; what would break it becomes spaces."""
    write_text(safe_line(text) + "\n")


def write_json(document: object) -> None:
    """Write one JSON document to stdout; what could drive a terminal is escaped in it."""
    text = json.dumps(document, ensure_ascii=False, indent=2)
    sys.stdout.write(_INVISIBLE_IN_JSON.sub(_escaped, text) + "\n")
    sys.stdout.flush()


def write_json_line(document: object) -> None:
    """Write one JSON document as one line to stdout, as harmless as `write_json` does."""
    text = json.dumps(document, ensure_ascii=False)
    sys.stdout.write(_INVISIBLE_IN_JSON.sub(_escaped, text) + "\n")
    sys.stdout.flush()


def plain(value: msgspec.Struct) -> dict[str, Any]:
    """A value of the engine as what JSON can say; paths become text."""
    found = cast("dict[str, Any]", msgspec.to_builtins(value, enc_hook=str))
    found.pop("type", None)  # the wire's own mark
    return found


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found.group()):04x}"


def tell_progress(text: str) -> None:
    """Write one line of progress to stderr, where it is no terminal."""
    sys.stderr.write(f"{safe_line(text)}\n")
    sys.stderr.flush()


def complain(message: str, hint: str = "") -> None:
    """Write what happened and the next step to stderr, on one line."""
    sys.stderr.write(f"vramble: {safe_line(f'{message} {hint}'.strip())}\n")
    sys.stderr.flush()


def fail(message: str, hint: str, *, error: str, as_json: bool) -> None:
    """Say why nothing came of it: on stderr, and as a JSON document where one was asked for."""
    complain(message, hint)
    if as_json:
        write_json({"error": {"type": error, "message": message, "hint": hint}})


def forget_stdout() -> None:
    """Point stdout nowhere, after its reader has gone, so that the last flush does not fail too."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
