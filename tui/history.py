"""What the model is told: the active branch as messages whose roles alternate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.values import ChatMessage, Role

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sessions import Turn


def messages_for(turns: Iterable[Turn], prompt: str, system_prompt: str = "") -> tuple[ChatMessage, ...]:
    """The conversation that ends with a new prompt.

    A turn without an answer, stopped or failed before its first word or within its reasoning, is
    left out with its prompt: two user messages in a row break the templates of many models.
    """
    return (*_past(turns, system_prompt), ChatMessage(role=Role.USER, content=prompt))


def messages_to_continue(
    turns: Iterable[Turn], unfinished: Turn, system_prompt: str
) -> tuple[ChatMessage, ...]:
    """The conversation whose last message is a reply that is to go on."""
    return (*_past(turns, system_prompt), *_both(unfinished))


def _past(turns: Iterable[Turn], system_prompt: str) -> tuple[ChatMessage, ...]:
    system = (ChatMessage(role=Role.SYSTEM, content=system_prompt),) if system_prompt else ()
    answered = (turn for turn in turns if turn.reply.strip())
    return (*system, *(message for turn in answered for message in _both(turn)))


def _both(turn: Turn) -> tuple[ChatMessage, ChatMessage]:
    return (
        ChatMessage(role=Role.USER, content=turn.prompt),
        ChatMessage(role=Role.ASSISTANT, content=turn.reply, reasoning=turn.reasoning),
    )
