"""TOML written by hand: one line changed in a text, or a whole text; there is no writer in the library."""

from __future__ import annotations

import json
import re

_HEADER = re.compile(r"\s*\[\s*([A-Za-z0-9_.-]+)\s*\]\s*(#.*)?")
_COMMENT = re.compile(r"\s+#[^\"']*$")


def change_line(text: str, table: str, key: str, value: object) -> str:
    """Set one key of a table ("" is the top), or remove it where the value is None.

    Knows values that lie on one line; the caller reads the result again and compares.
    """
    lines = text.splitlines()
    start, end = _span(lines, table)
    new = None if value is None else f"{key} = {literal(value)}"
    for number in range(start, end):
        if re.match(rf"\s*{re.escape(key)}\s*=", lines[number]):
            comment = _COMMENT.search(lines[number])
            lines[number : number + 1] = [] if new is None else [new + (comment[0] if comment else "")]
            return _joined(lines)
    if new is not None:
        header = [f"[{table}]"] if table and start == end == len(lines) else []
        lines[end:end] = [*([""] if header and lines else []), *header, new]
    return _joined(lines)


def _span(lines: list[str], table: str) -> tuple[int, int]:
    """The lines of a table without its header; empty and at the end where there is no such table."""
    start = 0 if not table else len(lines)
    for number, line in enumerate(lines):
        header = _HEADER.fullmatch(line)
        if header and header[1] == table:
            start = number + 1
        elif (header or line.lstrip().startswith("[[")) and number >= start:
            return start, _before_blank(lines, start, number)
    return start, _before_blank(lines, start, len(lines))


def _before_blank(lines: list[str], start: int, end: int) -> int:
    while end > start and not lines[end - 1].strip():
        end -= 1
    return end


def _joined(lines: list[str]) -> str:
    return "\n".join(lines) + "\n" if lines else ""


def whole_text(plain: dict[str, object]) -> str:
    """A TOML text of top-level keys and one level of tables."""
    lines = [f"{key} = {literal(value)}" for key, value in plain.items() if not isinstance(value, dict)]
    for name, table in plain.items():
        if isinstance(table, dict):
            lines += ["", f"[{name}]"]
            lines += [f"{key} = {literal(value)}" for key, value in table.items() if value is not None]
    return _joined(lines)


def literal(value: object) -> str:
    """A string, number, boolean or list of them as TOML writes it."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(literal(item) for item in value)}]"
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    # TOML's basic strings are JSON's, but for DEL, and without surrogate pairs.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
