"""Messages that cross widgets, on one page: wishes (`CopyRequested`) and facts (`PromptSubmitted`)."""

from __future__ import annotations

from textual.message import Message

from tui.safe_text import SafeText


class CopyRequested(Message):
    """The person wants a message's text on the clipboard.

    Attributes:
        turn_key: which turn.
        text: what to copy.
    """

    def __init__(self, turn_key: str, text: SafeText) -> None:
        super().__init__()
        self.turn_key = turn_key
        self.text = text


class EditRequested(Message):
    """The person wants to write a turn's prompt anew, on a branch of its own.

    Attributes:
        turn_key: which turn.
        prompt: what was asked.
    """

    def __init__(self, turn_key: str, prompt: SafeText) -> None:
        super().__init__()
        self.turn_key = turn_key
        self.prompt = prompt


class RegenerateRequested(Message):
    """The person wants another reply to the same prompt.

    Attributes:
        turn_key: which turn.
    """

    def __init__(self, turn_key: str) -> None:
        super().__init__()
        self.turn_key = turn_key
