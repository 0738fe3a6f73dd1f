"""Hostile text made harmless: what a model, a hub, a file or a remote engine says cannot drive the terminal.

Text is cleaned twice. `safe` makes a SafeText where text enters, and widgets accept nothing else.
`install_strip_filter` looks once more at the last moment, when a Strip becomes bytes.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from rich.cells import cell_len, get_character_cell_size

if TYPE_CHECKING:
    from rich.segment import Segment

_C0 = {code: chr(0x2400 + code) for code in range(0x20) if code not in {0x09, 0x0A}}
_C1 = dict.fromkeys(range(0x80, 0xA0), "\ufffd")
_BIDI = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd")
_MARKS_OF_DIRECTION = dict.fromkeys([0x061C, 0x200E, 0x200F], "")
_SEPARATORS = {0x0D: "", 0x2028: "\n", 0x2029: "\n"}
_INVISIBLE = dict.fromkeys([0xAD, 0xFEFF, *range(0xE0000, 0xE0080)], "")
_NOT_CHARACTERS = dict.fromkeys([0xFFF9, 0xFFFA, 0xFFFB, 0xFFFE, 0xFFFF, *range(0xD800, 0xE000)], "\ufffd")
_REPLACED = (
    _C0 | {0x7F: "\u2421"} | _C1 | _BIDI | _MARKS_OF_DIRECTION | _SEPARATORS | _INVISIBLE | _NOT_CHARACTERS
)

_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
    "\ud800-\udfff\ufeff\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e007f]"
)
_UNSAFE_ON_SCREEN = re.compile(_UNSAFE.pattern.replace("\x00-\x08\x0b-\x1f", "\x00-\x1f"))

MARKS_PER_BASE = 8
"""Combining marks and other zero-width characters that one visible character may carry."""

# Scripts that never combine (Latin, CJK, Hangul, full width) are left out, so that they cost nothing.
_NEVER_MARKS = "\x00-\u02ff\u2e80-\u3029\u3030-\u3098\u309b-\ua4cf\uac00-\ud7a3\uff00-\uffef"
_MAYBE_MARKS = re.compile(f"[^{_NEVER_MARKS}]{{{MARKS_PER_BASE + 1},}}")
_MARK_CATEGORIES = frozenset({"Mn", "Me", "Cf"})

_EMOJI = "\u203c-\u3299\U0001f000-\U0001faff"
_UNSTEADY = re.compile(
    f"[#*0-9\xa9\xae{_EMOJI}](?:[\ufe0f\u20e3\U0001f3fb-\U0001f3ff]|\u200d[{_EMOJI}])+"
    "|[\U0001f1e6-\U0001f1ff]{2}"
)
"""Emoji of several characters: terminals do not agree about how many cells they take."""


class SafeText(str):
    """Text that holds no control characters but newline and tab; made by `safe` alone."""

    __slots__ = ()


def safe(text: str) -> SafeText:
    """Replace whatever could drive a terminal, hide text or stall a layout.

    C0 controls become their pictures; C1, bidi overrides, lone surrogates and noncharacters become
    U+FFFD; carriage returns, direction marks, tags and soft hyphens go; a base keeps
    `MARKS_PER_BASE` marks. Newlines and tabs stay.
    """
    if isinstance(text, SafeText):
        return text
    if _UNSAFE.search(text):
        text = text.translate(_REPLACED)
    if not text.isascii():
        text = _MAYBE_MARKS.sub(_cap_marks, text)
    return SafeText(text)


def safe_line(text: str) -> SafeText:
    """Make text safe for a place of one line: newlines and tabs become spaces."""
    return SafeText(safe(text).replace("\n", " ").replace("\t", " "))


def cap_marks(text: str) -> str:
    """Drop the marks above `MARKS_PER_BASE`; for text that was joined from safe pieces."""
    return text if text.isascii() else _MAYBE_MARKS.sub(_cap_marks, text)


def _cap_marks(found: re.Match[str]) -> str:
    kept: list[str] = []
    marks = 0
    for character in found.group():
        marks = marks + 1 if _is_mark(character) else 0
        if marks <= MARKS_PER_BASE:
            kept.append(character)
    return "".join(kept)


def _is_mark(character: str) -> bool:
    return unicodedata.category(character) in _MARK_CATEGORIES or not get_character_cell_size(character)


def on_screen(text: str) -> str:
    """The last look at text that becomes bytes: as `safe`, and without newlines and tabs."""
    if not _UNSAFE_ON_SCREEN.search(text):
        return text
    return safe(text).replace("\n", "\u240a").replace("\t", " ")


def anchored(text: str) -> str:
    """Text that ends in the same cell of every terminal, however wide that terminal draws an emoji.

    The cells are blanked, the emoji is drawn from the first of them, and what follows is placed behind them.
    """
    return text if text.isascii() else _UNSTEADY.sub(_anchor, text)


def _anchor(found: re.Match[str]) -> str:
    if not (cells := cell_len(found.group())):
        return found.group()
    return f"\x1b7{' ' * cells}\x1b8\x1b7{found.group()}\x1b8\x1b[{cells}C"


def install_strip_filter() -> None:
    """Make every Strip that Textual renders pass through `on_screen` and `anchored`, and drop OSC 8 links.

    Idempotent. Textual writes what it is given; this is the only place all its widgets share.
    """
    from rich.console import Console
    from textual.strip import Strip

    if hasattr(Strip.render, "unfiltered"):
        return
    unfiltered = Strip.render

    def render(self: Strip, console: Console) -> str:
        if self._render_cache is None:
            self._segments = [_clean_segment(segment) for segment in self._segments]
            self._render_cache = anchored(unfiltered(self, console))
        return self._render_cache

    render.unfiltered = unfiltered  # type: ignore[attr-defined] # marks the filter as installed
    Strip.render = render  # type: ignore[method-assign] # the purpose of this function


def _clean_segment(segment: Segment) -> Segment:
    text, style, control = segment
    cleaned = on_screen(text)
    linked = style is not None and style.link is not None
    if cleaned is text and not linked:
        return segment
    return type(segment)(cleaned, style.update_link(None) if style and linked else style, control)
