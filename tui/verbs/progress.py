"""One line of progress on stderr, and only where stderr is a terminal."""

from __future__ import annotations

import os
import sys
import time

from engine import events, values
from tui.format import format_duration, format_size, format_used
from tui.safe_text import safe_line
from tui.verbs.table import shortened

_SECONDS_BETWEEN = 0.2
_USUAL_COLUMNS = 80
_CLEAR = "\r\x1b[K"
_STAGES = {
    values.LoadStage.IMPORT: "starting the engine",
    values.LoadStage.READ: "reading",
    values.LoadStage.PLACE: "placing",
    values.LoadStage.QUANTIZE: "quantizing",
    values.LoadStage.WARM_UP: "warming up",
}


class ProgressLine:
    """Shows how far a load or a prefill is; silent where stderr is no terminal."""

    def __init__(self) -> None:
        """Stay quiet where nobody watches."""
        self._is_on = sys.stderr.isatty()
        self._shown = ""
        self._next_at = 0.0

    def watch(self, event: events.AnyEvent) -> None:
        """Show an event that says how far something is; text of the reply clears the line."""
        match event:
            case events.LoadProgress():
                self.show(_load(event))
            case events.PrefillProgress():
                self.show(f"reading the prompt: {event.done_tokens:,} of {event.total_tokens:,} tokens")
            case events.TextDelta(reasoning=True):
                self.show(f"thinking: {event.completion_tokens:,} tokens")
            case events.TextDelta() | events.TurnFinished():
                self.clear()
            case _:
                pass

    def show(self, text: str) -> None:
        """Put text on the line as far as it fits, at most five times a second."""
        now = time.monotonic()
        if self._is_on and now >= self._next_at:
            self._next_at = now + _SECONDS_BETWEEN
            # A line that is wrapped could not be taken back, not even by the ^C that terminals show.
            self._write(_CLEAR + shortened(safe_line(text), _columns() - len("^C") - 1))
            self._shown = text

    def clear(self) -> None:
        """Leave the line empty, and show what comes next at once."""
        self._next_at = 0.0
        if self._shown:
            self._write(_CLEAR)
            self._shown = ""

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _USUAL_COLUMNS
    except OSError:
        return _USUAL_COLUMNS


def _load(event: events.LoadProgress) -> str:
    parts = [_STAGES[event.stage]]
    if event.total_bytes:
        parts.append(format_used(event.done_bytes, event.total_bytes))
    elif event.done_bytes:
        parts.append(format_size(event.done_bytes))
    if event.seconds_left is not None:
        parts.append(f"{format_duration(event.seconds_left)} left")
    return " · ".join(parts)
