"""Messages that cross widgets, on one page: wishes (`CopyRequested`) and facts (`PromptSubmitted`)."""

from __future__ import annotations

from textual.message import Message

from engine.downloads import AnyDownloadEvent
from tui.safe_text import SafeText


class CopyRequested(Message):
    """The person wants a message's text on the clipboard.

    Attributes:
        turn_key: which turn.
        text: what to copy.
    """

    def __init__(self, turn_key: str, text: SafeText) -> None:
        """Say which message, and its text."""
        super().__init__()
        self.turn_key = turn_key
        self.text = text


class FollowingChanged(Message):
    """The transcript left the end of the talk, or is there again."""


class EditRequested(Message):
    """The person wants to write a turn's prompt anew, on a branch of its own.

    Attributes:
        turn_key: which turn.
        prompt: what was asked.
    """

    def __init__(self, turn_key: str, prompt: SafeText) -> None:
        """Say which turn, and the prompt to begin with."""
        super().__init__()
        self.turn_key = turn_key
        self.prompt = prompt


class RegenerateRequested(Message):
    """The person wants another reply to the same prompt.

    Attributes:
        turn_key: which turn.
    """

    def __init__(self, turn_key: str) -> None:
        """Say which turn."""
        super().__init__()
        self.turn_key = turn_key


class PromptSubmitted(Message):
    """The person pressed Enter on a prompt that says something.

    Attributes:
        text: the whole prompt, long pastes included.
    """

    def __init__(self, text: SafeText) -> None:
        """Take what was written."""
        super().__init__()
        self.text = text


class EventsWaiting(Message):
    """The bridge has something to take; sent from the engine's thread, once until it is taken."""


class DownloadEnded(Message):
    """A download came to its end; sent from its thread.

    Attributes:
        end: how.
    """

    def __init__(self, end: AnyDownloadEvent) -> None:
        """Say how."""
        super().__init__()
        self.end = end
