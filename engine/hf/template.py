"""Chat templates: text that a repository brought, run with a limit."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence

from jinja2 import TemplateError as JinjaError

from engine.errors import TemplateError
from engine.hf.protocols import TextTokenizer
from engine.values import ChatMessage, Role

TEMPLATE_SECONDS = 2.0
LONGEST_TEXT = 32 << 20

PLAIN_STOPS = ("\nUser:", "\nAssistant:")
PLAIN_TEMPLATE = (
    "{% for m in messages %}"
    "{% if m.role == 'system' %}{{ m.content }}\n\n"
    "{% elif m.role == 'user' %}User:\n{{ m.content }}\n\n"
    "{% else %}Assistant:\n{{ m.content }}\n\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}Assistant:\n{% endif %}"
)

_RAISED = (
    JinjaError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    IndexError,
    ArithmeticError,
    RecursionError,
)


class _TooLong(BaseException):
    """Thrown into a rendering that has used up its time; templates cannot catch it."""


class ChatTemplate:
    """The checkpoint's template, or a plain transcript where it has none."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        """Take a tokenizer of transformers, with or without a template."""
        self._tokenizer = tokenizer
        self.exists = bool(getattr(tokenizer, "chat_template", None))

    def render(self, messages: Sequence[ChatMessage], *, unfinished: bool = False, bare: bool = False) -> str:
        """Return the conversation's text, ending with what opens the assistant's reply.

        A template that refuses a system message gets it in front of the first one.

        Args:
            messages: what is to be rendered.
            unfinished: the last message is a reply that goes on; end right behind its content.
            bare: end with the last message, without opening a reply.

        Raises:
            TemplateError: the template refused, failed, or took more than TEMPLATE_SECONDS.
        """
        opens = not (unfinished or bare)
        try:
            return self._apply(messages, opens=opens, unfinished=unfinished)
        except TemplateError:
            if not messages[1:] or messages[0].role is not Role.SYSTEM:
                raise
        return self._apply(_folded(messages), opens=opens, unfinished=unfinished)

    def _apply(self, messages: Sequence[ChatMessage], *, opens: bool, unfinished: bool) -> str:
        entries = [_entry(message) for message in messages]
        return _limited(
            lambda: self._tokenizer.apply_chat_template(
                entries,
                tokenize=False,
                chat_template=None if self.exists else PLAIN_TEMPLATE,
                add_generation_prompt=opens,
                continue_final_message=unfinished,
            )
        )


def _entry(message: ChatMessage) -> dict[str, str]:
    entry = {"role": str(message.role), "content": message.content}
    if message.reasoning:
        entry["reasoning_content"] = message.reasoning
    return entry


def _folded(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    system, first, *rest = messages
    content = f"{system.content}\n\n{first.content}"
    return [ChatMessage(role=first.role, content=content, reasoning=first.reasoning), *rest]


def _limited(render: Callable[[], str]) -> str:
    """Run a rendering in a thread of its own, which is ended when its time is up."""
    outcome: list[str | BaseException] = []
    thread = threading.Thread(target=_keep_outcome, args=(render, outcome), daemon=True)
    thread.start()
    thread.join(TEMPLATE_SECONDS)
    if thread.is_alive() and thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(_TooLong))
        raise TemplateError(
            f"The chat template ran for more than {TEMPLATE_SECONDS:g} s.", "Choose another model."
        )
    text = outcome[0]
    if not isinstance(text, str):
        raise TemplateError(f"The chat template failed: {text}.", "Choose another model.") from text
    if len(text) > LONGEST_TEXT:
        raise TemplateError("The chat template made a text of more than 32 MiB.", "Choose another model.")
    return text


def _keep_outcome(render: Callable[[], str], outcome: list[str | BaseException]) -> None:
    try:
        outcome.append(render())
    except (*_RAISED, MemoryError) as error:
        outcome.append(error)
    except _TooLong:
        return
