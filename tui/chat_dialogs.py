"""The dialogs that the chat opens, and what is done with their answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.events import Planned
    from engine.values import ModelRef, Placement
    from tui.chat import Chat


class ChatDialogs:
    """Opens dialogs over the chat; their modules are imported when they are first wanted."""

    def __init__(self, chat: Chat) -> None:
        """Open them for this chat."""
        self._chat = chat
        self._app = chat.screen.app
        self._bridge = chat.bridge

    def choose_model(self) -> None:
        pass

    def choose_session(self) -> None:
        pass

    def choose_theme(self) -> None:
        pass

    def show_help(self) -> None:
        pass

    def show_plan(self, model: ModelRef, placement: Placement) -> None:
        pass

    def plan(self, model: ModelRef) -> None:
        pass
