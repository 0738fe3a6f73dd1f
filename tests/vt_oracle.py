"""A strict reader of what a program writes to its terminal: text, and sequences on an allow-list."""

from __future__ import annotations

import re
from collections.abc import Iterator

# One sequence, the longest form first; what matches none of these is a stray control.
_TOKEN = re.compile(
    rb"""
    \x1b\[[0-?]*[\x20-\x2f]*[@-~]                 # CSI
  | \x1b[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\)   # OSC, DCS, SOS, PM, APC, terminated
  | \x1b[\x20-\x2f]+[0-~]                         # escape with intermediates
  | \x1b[0-~]                                     # two-character escape
  | [^\x00-\x1f\x7f]+                             # text
  | \r\n | [\x00-\x1f\x7f]                        # controls
    """,
    re.VERBOSE | re.DOTALL,
)
_MODES = "1000|1002|1003|1004|1006|1015|1016|1049|2004|2026|2027|2031|2048|25|7"
_ALLOWED = re.compile(
    rf"""
    \x1b\[\d+;\d+H                  # go to a cell
  | \x1b\[H
  | \x1b[78] | \x1b\[\d{{1,2}}C      # keep a place and come back to it, around an emoji
  | \x1b\[(?:\d+(?:;\d+)*)?m        # colours and weights
  | \x1b\[\?(?:{_MODES})[hl]        # modes that are set at the start and reset at the end
  | \x1b\[\?(?:{_MODES})\$p         # and asked for
  | \x1b\[(?:>\d+|<\d*|=\d+(?:;\d+)?|\?)u   # the kitty keyboard
  | \x1b\[>4;\d?m | \x1b\[\?4m      # xterm's other keys
  | \x1b\[(?:6n|c|>c|>0?q|14t|16t|18t|2J|0?J|0?K|5W)
  | \x1b\]22;[a-z-]*(?:\x07|\x1b\\) # the mouse pointer's shape
  | \r\n | \n | \r
    """,
    re.VERBOSE,
)
_HIDDEN = re.compile(
    "[\x80-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufffe\uffff\U000e0000-\U000e007f]"
)


def intruders(data: bytes) -> list[bytes]:
    """Everything in the stream that is neither plain text nor a sequence we mean to write."""
    return [token for token in _tokens(data) if not _is_fine(token)]


def _tokens(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        found = _TOKEN.match(data, at)
        token = found.group() if found else data[at : at + 1]
        yield token
        at += len(token)


def _is_fine(token: bytes) -> bool:
    try:
        text = token.decode()
    except UnicodeDecodeError:
        return False
    if token[0] >= 0x20 and token[0] != 0x7F:
        return _HIDDEN.search(text) is None
    return _ALLOWED.fullmatch(text) is not None
