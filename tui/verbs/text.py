"""Text that comes in by the command line and by stdin."""

from __future__ import annotations

import locale
import os


def as_text(found: bytes) -> str:
    """Bytes as text: UTF-8 where they are, else what the locale says; never a lone surrogate."""
    try:
        return found.decode("utf-8")
    except UnicodeDecodeError:
        return found.decode(locale.getencoding(), "replace")


def word_as_text(word: str) -> str:
    """A word of the command line, whatever the locale made of it. Not for paths, which stay as they are."""
    return as_text(os.fsencode(word))
