"""How much of a text has to wait, because it may be the beginning of something."""

from __future__ import annotations

from collections.abc import Iterable


def held_length(text: str, wanted: Iterable[str]) -> int:
    """Return the length of the longest end of `text` that begins, and does not finish, a wanted string."""
    return max((_overlap(text, string) for string in wanted), default=0)


def _overlap(text: str, string: str) -> int:
    longest = min(len(text), len(string) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(string[:n])), 0)
