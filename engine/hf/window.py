"""Which part of a conversation fits into the context window."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from functools import cache

from engine.errors import ContextOverflow
from engine.hf.prompt import Prompt, PromptWriter
from engine.values import ChatMessage, Role

USUAL_REPLY = 256


class Window:
    """The context window of one model, and the conversations that are fitted into it."""

    def __init__(self, writer: PromptWriter, tokens: int) -> None:
        """Take the writer of prompts and the window's size in tokens."""
        self._writer = writer
        self.tokens = tokens

    def fit(self, messages: Sequence[ChatMessage], wanted: int | None, *, unfinished: bool = False) -> Prompt:
        """Return the prompt with as few of the oldest turns left out as leave room for a reply.

        Args:
            messages: the whole conversation.
            wanted: the reply's limit in tokens, where one is set.
            unfinished: the last message goes on.

        Raises:
            ContextOverflow: the system prompt and the last turn alone do not fit.
            TemplateError: the template cannot render it.
        """
        room = self.tokens - min(wanted or USUAL_REPLY, self.tokens // 4)
        head = int(bool(messages) and messages[0].role is Role.SYSTEM)
        starts = _turn_starts(messages, head)

        @cache
        def written(start: int) -> Prompt:
            kept = [*messages[:head], *messages[start:]]
            prompt = self._writer.write(kept, unfinished=unfinished)
            return prompt._replace(dropped_messages=start - head)

        def fits(start: int) -> bool:
            return len(written(start).token_ids) <= room

        if fits(starts[0]):
            return written(starts[0])
        at = bisect.bisect_left(starts, True, lo=1, key=fits)
        return self._checked(written(starts[min(at, len(starts) - 1)]))

    def _checked(self, prompt: Prompt) -> Prompt:
        """Refuse what leaves no room for a single token."""
        if len(prompt.token_ids) < self.tokens:
            return prompt
        raise ContextOverflow(
            f"The last message takes {len(prompt.token_ids):,} tokens with the system prompt; "
            f"the context window holds {self.tokens:,}.",
            "Shorten it, or load the model with a larger context window.",
        )


def _turn_starts(messages: Sequence[ChatMessage], head: int) -> list[int]:
    """Return where the conversation may begin: at its start, and at every later message of the user."""
    later = [i for i in range(head + 1, len(messages)) if messages[i].role is Role.USER]
    return [head, *later]
