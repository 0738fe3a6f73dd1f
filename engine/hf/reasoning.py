"""Thinking text apart from the answer; the tags themselves are never emitted."""

from __future__ import annotations

from typing import NamedTuple

from engine.hf.held import held_length

OPEN = "<think>"
CLOSE = "</think>"


class Piece(NamedTuple):
    """Some of a reply."""

    text: str
    reasoning: bool


class ReasoningSplitter:
    """Cuts a reply at its tags, also where they are split across pieces.

    A reply that has begun with something else may speak of the tags: there they are text, unless the
    tokenizer has tokens of their own for them.
    """

    def __init__(self, *, thinking: bool, anywhere: bool) -> None:
        """Start a reply.

        Args:
            thinking: the prompt has already opened the tag.
            anywhere: tags count in the middle of the answer, too.
        """
        self._thinking = thinking
        self._anywhere = anywhere
        self._held = ""
        self._begun = False
        self._behind_tag = thinking

    def add(self, text: str) -> list[Piece]:
        """Return the pieces that are certain now."""
        self._held += text
        pieces: list[Piece] = []
        while (found := self._next_tag()) is not None:
            at, tag = found
            self._emit(pieces, self._held[:at].rstrip("\n"))
            self._held = self._held[at + len(tag) :]
            self._thinking, self._behind_tag = tag == OPEN, True
        waiting = self._waiting()
        self._emit(pieces, self._held[: len(self._held) - waiting])
        self._held = self._held[len(self._held) - waiting :]
        return pieces

    def flush(self) -> list[Piece]:
        """Return what was held back, when the reply ends."""
        pieces: list[Piece] = []
        self._emit(pieces, self._held)
        self._held = ""
        return pieces

    def _tags(self) -> tuple[str, ...]:
        """Name the tags that would count now."""
        if self._anywhere:
            return (OPEN, CLOSE)
        if self._thinking:
            return (CLOSE,)
        return () if self._begun else (OPEN,)

    def _next_tag(self) -> tuple[int, str] | None:
        found = [(at, tag) for tag in self._tags() if (at := self._held.find(tag)) >= 0]
        first = min(found, default=None)
        if first is None or self._anywhere or self._thinking or not self._held[: first[0]].strip():
            return first
        return None

    def _waiting(self) -> int:
        """Count the characters that may be a tag's beginning, or line ends that a tag would swallow."""
        partial = held_length(self._held, self._tags())
        if not self._thinking:
            return partial
        body = self._held[: len(self._held) - partial]
        return partial + len(body) - len(body.rstrip("\n"))

    def _emit(self, pieces: list[Piece], text: str) -> None:
        """Append a piece, without the line ends that only set the tags apart."""
        if self._behind_tag:
            text = text.lstrip("\n")
        if text:
            self._behind_tag = False
            self._begun = self._begun or bool(text.strip())
            pieces.append(Piece(text, self._thinking))
