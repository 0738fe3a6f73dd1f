"""A conversation to token ids: the template's own tokens stay apart from what people wrote."""

from __future__ import annotations

import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from engine.hf.kv import common_prefix
from engine.hf.protocols import TextTokenizer
from engine.hf.reasoning import CLOSE, OPEN
from engine.hf.template import ChatTemplate
from engine.values import ChatMessage, Role

REMEMBERED = 256

TokenIds = list[int]
Encode = Callable[[str], TokenIds]


class Prompt(NamedTuple):
    """What the model is to read.

    Attributes:
        token_ids: the whole conversation, ready for the reply.
        settled: how many of them a later turn will begin with, too.
        thinking: the template has opened the reasoning of the reply.
        dropped_messages: oldest ones left out, the system prompt not counted.
    """

    token_ids: TokenIds
    settled: int
    thinking: bool = False
    dropped_messages: int = 0


class PromptWriter:
    """Renders conversations for one tokenizer and remembers the ids of the replies it saw made."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        """Take a tokenizer of transformers."""
        self.template = ChatTemplate(tokenizer)
        self._tokenizer = tokenizer
        self._control = _control_pattern(tokenizer)
        self._replies: OrderedDict[str, TokenIds] = OrderedDict()
        self._lead = [] if self.template.exists else _leading_ids(tokenizer)

    def remember(self, text: str, token_ids: Sequence[int]) -> None:
        """Keep a reply's own ids: text tokenized anew need not give the ids that are in the cache."""
        self._replies[text.strip()] = list(token_ids)
        while len(self._replies) > REMEMBERED:
            self._replies.popitem(last=False)

    def write(self, messages: Sequence[ChatMessage], *, unfinished: bool = False) -> Prompt:
        """Return the ids of a conversation.

        Args:
            messages: oldest first; roles are made to alternate and empty replies left out.
            unfinished: go on with the last message, a reply that was cut off.

        Raises:
            TemplateError: the template cannot render it.
        """
        tidy = alternating(messages, keep_last=unfinished)
        if unfinished and not tidy[-1].content.strip():
            return self._reopened(tidy)
        marked, pieces = self._marked(tidy)
        text = self.template.render(marked, unfinished=unfinished)
        token_ids = [*self._lead, *self._joined(text, pieces)]
        if unfinished:
            return Prompt(token_ids, len(token_ids))
        bare = self.template.render(marked, bare=True)
        settled = len(token_ids) - len(self._encode(text[common_prefix(text, bare) :]))
        return Prompt(token_ids, settled, text.rstrip().endswith(OPEN))

    def _reopened(self, tidy: list[ChatMessage]) -> Prompt:
        """Go on with a reply that had at most its reasoning begun."""
        prompt = self.write(tidy[:-1])
        reasoning = tidy[-1].reasoning
        if not reasoning:
            return prompt
        opening = "" if prompt.thinking else f"{OPEN}\n"
        return Prompt(prompt.token_ids + self._encode(opening + reasoning), prompt.settled, thinking=True)

    def _marked(self, tidy: list[ChatMessage]) -> tuple[list[ChatMessage], dict[str, TokenIds]]:
        """Put a mark in place of every content that has ids of its own, and return these by mark."""
        marked: list[ChatMessage] = []
        pieces: dict[str, TokenIds] = {}
        for message in tidy:
            token_ids = self._own_ids(message)
            mark = f"@{secrets.token_hex(8)}@"
            marked.append(message if token_ids is None else _with_content(message, mark))
            if token_ids is not None:
                pieces[mark] = token_ids
        return marked, pieces

    def _own_ids(self, message: ChatMessage) -> TokenIds | None:
        """Give ids to a content that the tokenizer, left alone, would not read as what it is."""
        if message.role is Role.ASSISTANT and (known := self._replies.get(message.content.strip())):
            return known
        if self._control is not None and self._control.search(message.content):
            return self._as_text(message.content, self._control)
        return None

    def _joined(self, text: str, pieces: dict[str, TokenIds]) -> TokenIds:
        if not pieces:
            return self._encode(text)
        token_ids: TokenIds = []
        for part in re.split("(" + "|".join(map(re.escape, pieces)) + ")", text):
            token_ids += pieces[part] if part in pieces else self._encode(part)
        return token_ids

    def _as_text(self, content: str, control: re.Pattern[str]) -> TokenIds:
        """Tokenize a text in which no control token may arise: each one's string is cut behind its start."""
        token_ids: TokenIds = []
        while match := control.search(content):
            cut = match.start() + 1
            token_ids += self._encode(content[:cut])
            content = content[cut:]
        return token_ids + self._encode(content)

    def _encode(self, text: str) -> TokenIds:
        token_ids: TokenIds = self._tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
        return token_ids


def alternating(messages: Sequence[ChatMessage], *, keep_last: bool = False) -> list[ChatMessage]:
    """Leave out empty replies and join neighbours of one role: many templates refuse them.

    Args:
        messages: oldest first.
        keep_last: the last one is a reply that goes on; it stays as it is, even empty.
    """
    ended = messages[:-1] if keep_last else messages
    tidy: list[ChatMessage] = []
    for message in ended:
        if message.role is Role.ASSISTANT and not message.content.strip():
            continue
        if tidy and tidy[-1].role is message.role:
            tidy.append(_with_content(message, f"{tidy.pop().content}\n\n{message.content}"))
        else:
            tidy.append(message)
    return [*tidy, *messages[len(ended) :]]


def _with_content(message: ChatMessage, content: str) -> ChatMessage:
    return ChatMessage(role=message.role, content=content, reasoning=message.reasoning)


def _control_pattern(tokenizer: TextTokenizer) -> re.Pattern[str] | None:
    """Match the strings that the tokenizer turns into tokens of their own; blanks are harmless."""
    strings = {*tokenizer.get_added_vocab(), *tokenizer.all_special_tokens, OPEN, CLOSE}
    visible = sorted((string for string in strings if len(string.strip()) > 1), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, visible))) if visible else None


def _leading_ids(tokenizer: TextTokenizer) -> TokenIds:
    """Return the beginning-of-text token, where the tokenizer puts one in front of plain text."""
    token_ids: TokenIds = tokenizer("a")["input_ids"]
    return token_ids[:1] if token_ids[:1] == [tokenizer.bos_token_id] else []
