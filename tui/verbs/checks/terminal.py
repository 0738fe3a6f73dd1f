"""The terminal, its colours, its multiplexer, its clipboard and the locale."""

from __future__ import annotations

import locale
import os
import re
import shutil
import subprocess
import sys

from tui.verbs.checks.finding import Finding, ok, warn

_WITHOUT_A_SCREEN = {"", "dumb", "unknown"}
_FOLDS_BELOW_COLUMNS = 100
_LEAST = (20, 5)
_TMUX_SECONDS = 2
_TMUX_WITH_CLIPBOARD = (3, 2)


def check_terminal() -> list[Finding]:
    """Look at what the screen will be drawn on."""
    return [_kind(), _size(), _colours(), _locale(), _clipboard()]


def _kind() -> Finding:
    term = os.environ.get("TERM", "")
    if term in _WITHOUT_A_SCREEN:
        found = f"TERM is {term or 'not set'}: lines are shown instead of a screen."
        return warn("terminal", found, "Set TERM to your terminal's name, for example xterm-256color.")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return ok("terminal", f"TERM is {term}; this command itself runs without a terminal.")
    return ok("terminal", f"TERM is {term}.")


def _size() -> Finding:
    columns, rows = shutil.get_terminal_size()
    found = f"{columns} columns, {rows} rows."
    if columns < _LEAST[0] or rows < _LEAST[1]:
        return warn("size", f"{found} The prompt has no room.", "Make it 20x5 at least; 120x40 shows all.")
    if columns < _FOLDS_BELOW_COLUMNS:
        return ok("size", f"{found} The memory panel folds into two lines below {_FOLDS_BELOW_COLUMNS}.")
    return ok("size", found)


def _colours() -> Finding:
    term = os.environ.get("TERM", "")
    if os.environ.get("NO_COLOR"):
        return ok("colours", "None, as NO_COLOR asks.")
    if os.environ.get("COLORTERM", "") in {"truecolor", "24bit"} or term.endswith("-direct"):
        return ok("colours", "16 million.")
    if "256color" in term or term.startswith(("xterm-kitty", "alacritty", "foot", "wezterm")):
        return ok("colours", "256; the themes come out close to their colours.")
    advice = "If your terminal can do more, set COLORTERM=truecolor where you log in."
    return warn("colours", "8 or 16: themes are rough.", advice)


def _locale() -> Finding:
    encoding = (sys.stdout.encoding or "").lower()
    wanted = locale.getencoding().lower()
    if wanted.startswith(("utf", "gb18030")):
        return ok("locale", f"Text is {wanted.upper()}.")
    found = f"The locale's encoding is {wanted}; {encoding} is written all the same."
    return warn("locale", found, "Set LC_ALL=C.UTF-8, or any locale that ends in UTF-8.")


def _clipboard() -> Finding:
    if os.environ.get("TMUX"):
        return _tmux_clipboard()
    found = "Ctrl+Y sends OSC 52 to the terminal, which may ignore it, and keeps the text in a file."
    return ok("clipboard", found)


def _tmux_clipboard() -> Finding:
    version = _tmux("-V")
    number = re.search(r"(\d+)\.(\d+)", version)
    if not number:
        return warn("clipboard", "TMUX is set, but tmux does not answer.", "Copies go to a file only.")
    if tuple(int(part) for part in number.groups()) < _TMUX_WITH_CLIPBOARD:
        found = f"{version} cannot pass a copy on to the terminal; it stays in tmux's buffer."
        return warn("clipboard", found, "Use tmux 3.2 or newer.")
    if _tmux("show-options", "-sv", "set-clipboard") == "off":
        found = f"{version} keeps copies in its own buffer: set-clipboard is off."
        return warn("clipboard", found, "Put `set -s set-clipboard on` into ~/.tmux.conf.")
    return ok("clipboard", f"{version} takes copies and passes them on to the terminal.")


def _tmux(*words: str) -> str:
    try:
        done = subprocess.run(
            ["tmux", *words], capture_output=True, text=True, timeout=_TMUX_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
