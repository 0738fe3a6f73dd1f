"""The session that is open: its active branch, kept as the store has it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from sessions import Session, Turn, TurnState, to_json, to_markdown, write_export

if TYPE_CHECKING:
    from concurrent.futures import Future
    from pathlib import Path

    from sessions import SessionStore

T = TypeVar("T")
_CAN_GO_ON = frozenset({TurnState.STOPPED, TurnState.INTERRUPTED, TurnState.FAILED})


class OpenSession:
    """One session at a time; it is created with its first prompt, so that none is empty.

    Every change waits for its commit. Raises SessionError where the store does.
    """

    def __init__(self, store: SessionStore, system_prompt: str = "") -> None:
        """Begin without a session.

        Args:
            store: where talk is saved.
            system_prompt: of new sessions.
        """
        self._store = store
        self._default_system_prompt = system_prompt
        self.system_prompt = system_prompt
        self.session: Session | None = None
        self.turns: tuple[Turn, ...] = ()
        self.read_only = ""

    @property
    def title(self) -> str:
        """What the session is called; "new session" before it has a name."""
        return (self.session and self.session.title) or "new session"

    @property
    def notices(self) -> tuple[str, ...]:
        """Sentences about the store that the person should read."""
        return self._store.notices

    @property
    def last(self) -> Turn | None:
        """The last turn of the active branch."""
        return self.turns[-1] if self.turns else None

    @property
    def can_go_on(self) -> bool:
        """The last reply has begun and was cut short."""
        last = self.last
        is_short = last is not None and (last.state in _CAN_GO_ON or last.finish_reason == "length")
        return is_short and bool(last and last.reply.strip())

    def begin_anew(self) -> None:
        """Leave the session; the next prompt creates another one."""
        self._let_go()
        self.session = None
        self.turns = ()
        self.read_only = ""
        self.system_prompt = self._default_system_prompt

    async def resume(self, session_id: int) -> None:
        """Open a saved session; interrupted turns are marked as such."""
        found = await _done(self._store.session(session_id))
        if self.session is None or self.session.id != found.id:
            self._let_go()
        holder = await _done(self._store.claim(found.id))
        self.read_only = f"This session is open in {holder}; it can be read here." if holder else ""
        await self._read(found.id)

    async def latest_id(self) -> int | None:
        """The session that was written to last; None where there is none."""
        found = await _done(self._store.last_session())
        return found.id if found else None

    def _let_go(self) -> None:
        if self.session is not None:
            self._store.release(self.session.id)

    async def _read(self, session_id: int) -> None:
        self.session = await _done(self._store.session(session_id))
        self.system_prompt = self.session.system_prompt
        self.turns = await _done(self._store.path_of(session_id))

    async def begin_turn(self, prompt: str, model: str) -> Turn:
        """Commit a prompt behind the active branch."""
        if self.session is None:
            self.session = await _done(self._store.create(model=model, system_prompt=self.system_prompt))
        parent_id = self.turns[-1].id if self.turns else None
        turn = await _done(self._store.begin_turn(self.session.id, parent_id, prompt, model))
        self.session = await _done(self._store.session(turn.session_id))
        self.turns = (*self.turns, turn)
        return turn

    async def go_on(self) -> Turn:
        """Let the last reply stream again."""
        last = self.turns[-1]
        turn = await _done(self._store.continue_turn(last.session_id, last.id))
        self.turns = (*self.turns[:-1], turn)
        return turn

    def replace_last(self, turn: Turn) -> None:
        """The last turn has ended; this is how it was saved."""
        if self.turns and self.turns[-1].id == turn.id:
            self.turns = (*self.turns[:-1], turn)

    async def cut_before(self, turn_id: int) -> Turn:
        """Make the turn before that one the end of the active branch; the turn that was cut off."""
        position = next(n for n, turn in enumerate(self.turns) if turn.id == turn_id)
        cut = self.turns[position]
        await _done(self._store.set_head(cut.session_id, cut.parent_id))
        self.turns = self.turns[:position]
        return cut

    async def branches(self) -> tuple[Turn, ...]:
        """The last turn and its siblings, oldest first."""
        return await _done(self._store.siblings(self.turns[-1].id)) if self.turns else ()

    async def show_branch(self, turn_id: int) -> None:
        """Make the newest branch through a turn the active one."""
        if self.session is not None:
            await _done(self._store.set_head(self.session.id, turn_id, to_leaf=True))
            await self._read(self.session.id)

    async def rename(self, title: str) -> None:
        """Give the session another title."""
        if self.session is not None:
            self.session = await _done(self._store.rename(self.session.id, title))

    async def export(self, file: Path) -> None:
        """Write the session to a new file: all branches as .json, the active one as Markdown otherwise."""
        if self.session is not None:
            record = await _done(self._store.record(self.session.id))
            text = to_json(record) if file.suffix == ".json" else to_markdown(record)
            await asyncio.to_thread(write_export, file, text)

    async def tell_system(self, text: str) -> None:
        """Set what the model is told first; empty for nothing."""
        self.system_prompt = text
        if self.session is not None:
            self.session = await _done(self._store.set_system_prompt(self.session.id, text))


async def _done(future: Future[T]) -> T:
    return await asyncio.wrap_future(future)
