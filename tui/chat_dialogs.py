"""The dialogs that the chat opens, and what is done with their answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.downloads import AnyDownloadEvent
from sessions import SessionError
from tui.chat_plans import ChatPlans
from tui.consent import Consent
from tui.downloading import Downloading
from tui.messages import DownloadEnded
from tui.model_entries import ModelEntry, model_entries
from tui.outlooks import Outlooks, Wishes

if TYPE_CHECKING:
    from tui.chat import Chat
    from tui.screens.models import ModelChoice


_RECENT_SESSIONS = 500


class ChatDialogs:
    """Opens dialogs over the chat; their modules are imported when they are first wanted."""

    def __init__(self, chat: Chat) -> None:
        """Open them for this chat."""
        self._chat = chat
        self._app = chat.screen.app
        self._bridge = chat.bridge
        self.plans = ChatPlans(chat)
        self.consent = Consent(chat)
        options = chat.bridge.options
        wishes = Wishes(options.budgets, options.context_window, options.quantization)
        self._outlooks = Outlooks(self.plans.machine, wishes)
        self._downloading = Downloading(self._tell_end)

    def _tell_end(self, end: AnyDownloadEvent) -> None:
        # It comes on the download's thread; posting is what that thread may do.
        self._chat.screen.post_message(DownloadEnded(end))

    def choose_model(self) -> None:
        """List the models on this disk and load the chosen one, or show its plan."""
        from tui.screens.models import ModelsScreen

        screen = ModelsScreen(
            self.find_models, self._outlooks, self._downloading, loaded=self._chat.model_name
        )
        self._app.push_screen(screen, self._take_model)

    def find_models(self) -> list[ModelEntry]:
        """The models on this disk; slow, and not on the loop."""
        from engine import list_models

        found = list_models(self._bridge.settings.model_folders)
        self._app.known_models = frozenset(each.ref.name for each in found)
        return model_entries(found, self._last_used())

    def _last_used(self) -> dict[str, float]:
        """When each model was talked to last, by its name; waits for the store, and is not for the loop."""
        if self._bridge.store is None:
            return {}
        try:
            recent = self._bridge.store.sessions(_RECENT_SESSIONS).result()
        except SessionError:
            return {}  # the list is good without; what is wrong with the store is told elsewhere
        return {session.model: session.updated_at for session in reversed(recent)}

    def _take_model(self, choice: ModelChoice | None) -> None:
        if choice is None:
            return
        if choice.wants_plan:
            self.plans.open(choice.model)
        else:
            self._chat.loader.load(choice.model)

    def choose_session(self) -> None:
        """List saved sessions and resume the chosen one."""
        from tui.screens.sessions import SessionsScreen

        if self._bridge.store is not None:
            session = self._chat.talk.session
            screen = SessionsScreen(self._bridge.store, current=session.id if session else 0)
            self._app.push_screen(screen, self._take_session)

    def _take_session(self, session_id: int | None) -> None:
        if session_id is not None:
            self._chat.screen.run_worker(self._chat.resume(session_id))

    def choose_theme(self) -> None:
        """List palettes, each shown as it is passed."""
        from themes import palette_files
        from tui.screens.themes import ThemesScreen

        screen = ThemesScreen(tuple(palette_files()), self._app.theme, self._app.show_theme)
        self._app.push_screen(screen, self._take_theme)

    def _take_theme(self, name: str | None) -> None:
        if name is not None:
            self._chat.screen.run_command("theme", name)

    def show_help(self) -> None:
        """All keys and commands."""
        from tui.screens.help import HelpScreen

        self._app.push_screen(HelpScreen())
