"""Text and figures as SQLite and UTF-8 can keep them."""

from __future__ import annotations

import math
import re

TITLE_LENGTH = 80
LARGEST_INTEGER = 2**63 - 1
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def storable(text: str) -> str:
    """The text with NUL and lone surrogates replaced by U+FFFD, so that no insert can fail."""
    return _UNSTORABLE.sub("\ufffd", text)


def as_title(text: str) -> str:
    """The first words of a text on one line, at most TITLE_LENGTH characters."""
    line = " ".join(storable(text[: TITLE_LENGTH * 16]).split())
    return line if len(line) <= TITLE_LENGTH else line[: TITLE_LENGTH - 1].rstrip() + "…"


def storable_count(count: int) -> int:
    """The nearest count that SQLite can keep."""
    return min(max(count, 0), LARGEST_INTEGER)


def storable_seconds(figure: float) -> float:
    """The figure, or 0 for what is no number."""
    return float(figure) if math.isfinite(figure) else 0.0
