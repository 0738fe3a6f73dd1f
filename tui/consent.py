"""Asking before a model's own code runs: what was agreed to is remembered, what changed is shown again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from msgspec.structs import replace

from engine.errors import EngineError
from tui.consents import Consents
from tui.paths import FolderError

if TYPE_CHECKING:
    from engine import CodeOrigin
    from engine.commands import LoadModel
    from tui.chat import Chat
    from tui.code_review import CodeReview

_REFUSED = "Its code does not run, so the model is not loaded."


class Consent:
    """Turns a load that was refused for want of a yes into one that has it, or leaves it."""

    def __init__(self, chat: Chat) -> None:
        """Ask over this chat."""
        self._chat = chat
        self._app = chat.screen.app
        self._consents = Consents()

    async def ask_for(self, wish: LoadModel) -> None:
        """Show what the person has not agreed to yet, one repository after the other, and load."""
        try:
            origins = await asyncio.to_thread(self._code_of, wish)
            files = tuple(file for origin in origins for file in origin.files)
            if files == wish.trusted:
                return  # the engine refuses for another cause, which it has told
            for origin in origins:
                if not await self._is_agreed(origin, wish):
                    self._app.say(_REFUSED)
                    return
            self._chat.loader.load_as_planned(replace(wish, trusted=files))
        except (EngineError, FolderError) as error:
            self._chat.screen.banner.show(error.message, error.hint)
        except OSError as error:
            self._chat.screen.banner.show(
                f"The consent cannot be kept: {error.strerror}.", "Free some space."
            )

    def _code_of(self, wish: LoadModel) -> tuple[CodeOrigin, ...]:
        from engine import code_of

        return tuple(origin for origin in code_of(wish.model.folder) if origin.sources)

    async def _is_agreed(self, origin: CodeOrigin, wish: LoadModel) -> bool:
        review = await asyncio.to_thread(self._review, origin, wish)
        if review is None:
            return True
        from tui.screens.consent import ConsentScreen

        if not await self._app.push_screen_wait(ConsentScreen(review)):
            return False
        await asyncio.to_thread(self._consents.agree, origin)
        return True

    def _review(self, origin: CodeOrigin, wish: LoadModel) -> CodeReview | None:
        """What has to be shown; None where the person agreed, here or on the command line."""
        trusted = set(self._chat.bridge.options.trusted)
        if trusted.issuperset(origin.files) or self._consents.cover(origin):
            return None
        from tui.code_review import review_of

        return review_of(origin, wish.model.name, self._consents)
