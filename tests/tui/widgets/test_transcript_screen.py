import contextlib
import json
import random
import sys
import unicodedata
from pathlib import Path

from tests.pty_driver import Terminal
from tests.tui.markdown.layouts import SAMPLE
from tests.vt_oracle import intruders

PROGRAM = (sys.executable, "-m", "tests.tui.widgets.transcript_app", "stream")


def shown(terminal: Terminal) -> list[str]:
    """The terminal's lines; pyte leaves an empty cell behind a wide character."""
    lines: list[str] = []
    for y in range(terminal.screen.lines):
        cells = [terminal.screen.buffer[y][x].data for x in range(terminal.screen.columns)]
        lines.append("".join(cells).rstrip())
    return lines


def composed(lines: list[str]) -> list[str]:
    return [unicodedata.normalize("NFC", line) for line in lines]


def stream(tmp_path: Path, sizes: list[tuple[int, int]]) -> tuple[Terminal, list[str]]:
    file = tmp_path / "text.json"
    file.write_text(json.dumps(f"{SAMPLE}\n\n" * 6))
    terminal = Terminal((*PROGRAM, str(file)), columns=100, rows=30)
    try:
        terminal.wait_for("first")
        for columns, rows in sizes:
            terminal.read(0.05)
            terminal.resize(columns, rows)
        rows_file = Path(f"{file}.rows")
        terminal.wait_until(rows_file.exists, "the end of the reply", 40)
        expected: list[str] = json.loads(rows_file.read_text())
        with contextlib.suppress(AssertionError):  # the caller tells the difference better
            terminal.wait_until(lambda: composed(shown(terminal)) == composed(expected), "the last rows", 10)
        return terminal, expected
    finally:
        terminal.close()


def test_what_is_on_the_terminal_after_streaming_is_what_the_transcript_holds(tmp_path: Path) -> None:
    terminal, rows = stream(tmp_path, [])
    assert composed(shown(terminal)) == composed(rows)
    assert "■ stopped" in "\n".join(rows)
    assert intruders(bytes(terminal.raw)) == []


def test_the_screen_is_right_after_twenty_resizes_while_streaming(tmp_path: Path) -> None:
    source = random.Random(7)
    sizes = [(source.randint(20, 150), source.randint(5, 50)) for _ in range(20)]
    terminal, rows = stream(tmp_path, [*sizes, (90, 25)])
    assert composed(shown(terminal)) == composed(rows)
