"""How fast bytes come, over the last seconds."""

from __future__ import annotations

from collections import deque

_WINDOW_SECONDS = 8.0
_LEAST_SECONDS = 0.5


class Pace:
    """Follows a count of bytes that grows, and that a retry may take back."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._marks: deque[tuple[float, int]] = deque()
        self._grew_at: float | None = None

    def note(self, now: float, done_bytes: int) -> None:
        """Take the count at a time, in seconds of a clock that only goes forward."""
        if self._grew_at is None or not self._marks or done_bytes != self._marks[-1][1]:
            self._grew_at = now
        self._marks.append((now, done_bytes))
        while now - self._marks[0][0] > _WINDOW_SECONDS:
            self._marks.popleft()

    @property
    def bytes_per_second(self) -> float:
        """Of the window; 0 before it can be told."""
        if not self._marks:
            return 0.0
        (began, before), (ended, now) = self._marks[0], self._marks[-1]
        seconds = ended - began
        return max(0.0, (now - before) / seconds) if seconds >= _LEAST_SECONDS else 0.0

    def seconds_left(self, remaining_bytes: int) -> float | None:
        """None while nothing comes."""
        return remaining_bytes / self.bytes_per_second if self.bytes_per_second else None

    def silent_seconds(self, now: float) -> float:
        """Since the count last changed."""
        return 0.0 if self._grew_at is None else now - self._grew_at
