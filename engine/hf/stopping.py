"""Stop strings: found across token boundaries, never emitted."""

from __future__ import annotations

from engine.hf.held import held_length


class StopStrings:
    """Passes text on until one of the strings appears."""

    def __init__(self, strings: tuple[str, ...]) -> None:
        """Start a reply.

        Args:
            strings: what ends it; may be empty.
        """
        self._strings = strings
        self._held = ""
        self.met = False

    def add(self, text: str) -> str:
        """Return what may be shown; `met` turns True when a string is complete."""
        if not self._strings:
            return text
        text = self._held + text
        ends = [at for at in map(text.find, self._strings) if at >= 0]
        if ends:
            self.met, self._held = True, ""
            return text[: min(ends)]
        keep = len(text) - held_length(text, self._strings)
        self._held = text[keep:]
        return text[:keep]

    def flush(self) -> str:
        """Return what was held back, when the reply ends without a stop string."""
        held, self._held = self._held, ""
        return held
