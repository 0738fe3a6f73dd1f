"""Token ids to text as they come, never half a character."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from engine.hf.protocols import TextTokenizer

Decode = Callable[[list[int]], str]

TAGS = ("<think>", "</think>")
BEFORE = 8
LONGEST_RUN = 32
REPLACEMENT = "\ufffd"


class Detokenizer:
    """Decodes one reply a token at a time; concatenated, the pieces are the one-shot decode.

    Two tokens a step are decoded, the last ones shown and the new ones, so that the cost does not
    grow with the reply (about 1 us) and a decoder that joins or strips at borders sees both sides.
    """

    def __init__(self, tokenizer: TextTokenizer, before: Sequence[int] = ()) -> None:
        """Start a reply.

        Args:
            tokenizer: a tokenizer of transformers, fast or slow.
            before: ids of the text that the reply continues; empty where it starts afresh.
        """
        self._decode = decoder_of(tokenizer)
        self._tags = tag_ids(tokenizer)
        self._new: list[int] = []
        self._restart(list(before[-BEFORE:]))

    def add(self, token_id: int) -> str:
        """Return the characters that became whole with this token; sometimes none."""
        if token_id in self._tags:
            return self.flush() + self._tags[token_id]
        self._new.append(token_id)
        text = self._decode(self._shown + self._new)
        if text[-1:] == REPLACEMENT and len(self._new) < LONGEST_RUN:
            return ""
        piece = text[len(self._shown_text) :]
        if piece:
            self._restart(self._new)
        elif len(self._new) >= LONGEST_RUN:
            self._new = self._new[-BEFORE:]
        return piece

    def flush(self) -> str:
        """Return what is left when the reply ends; an unfinished character comes as U+FFFD."""
        rest = self._decode(self._shown + self._new)[len(self._shown_text) :]
        self._restart([])
        return rest

    def _restart(self, shown: list[int]) -> None:
        self._shown = shown
        self._shown_text = self._decode(shown)
        self._new = []


def decoder_of(tokenizer: TextTokenizer) -> Decode:
    """Decode ids to text without special tokens: the Rust backend where there is one."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        return lambda token_ids: str(backend.decode(token_ids, skip_special_tokens=True))
    return lambda token_ids: str(
        tokenizer.decode(token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    )


def tag_ids(tokenizer: TextTokenizer) -> dict[int, str]:
    """Ids of the reasoning tags that are single tokens; decoding would drop those that are special."""
    added = tokenizer.get_added_vocab()
    return {added[tag]: tag for tag in TAGS if tag in added}
