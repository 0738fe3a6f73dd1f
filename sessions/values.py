"""What saved talk is made of; every value is frozen."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class TurnState(enum.StrEnum):
    """How far the reply of a turn came.

    `streaming`: being written now. `stopped`: the person stopped it. `interrupted`: the
    program ended before the reply did. `failed`: the engine could not go on.
    """

    STREAMING = "streaming"
    FINISHED = "finished"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class TurnCounts:
    """Counts and speeds of one reply.

    Attributes:
        prompt_tokens: tokens of the rendered conversation.
        completion_tokens: tokens of the reply.
        time_to_first_token: seconds from the start of the turn.
        decode_tps: tokens per second after the first one.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    time_to_first_token: float = 0.0
    decode_tps: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """How a reply ended.

    Attributes:
        state: any but `streaming`.
        finish_reason: the engine's word: stop, length, cancelled, failed.
        note: for a failure, what happened and why.
        counts: counts and speeds.
    """

    state: TurnState
    finish_reason: str = ""
    note: str = ""
    counts: TurnCounts = TurnCounts()


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """One prompt and its answer.

    Attributes:
        id: grows with every turn of a store; a parent's is smaller than its children's.
        session_id: the session it belongs to.
        parent_id: the turn before it on its branch; None for a first one.
        prompt: what the person asked.
        reply: the answer, as far as it is on disk (hostile until made safe to draw).
        reasoning: thinking text of the answer.
        state: how far the reply came.
        finish_reason: the engine's word for why it ended; empty before.
        model: the name of the model that answered.
        note: for a failure, what happened and why.
        counts: counts and speeds of the reply.
        created_at: when the prompt was committed, in seconds since the epoch.
    """

    id: int
    session_id: int
    parent_id: int | None
    prompt: str
    reply: str = ""
    reasoning: str = ""
    state: TurnState = TurnState.STREAMING
    finish_reason: str = ""
    model: str = ""
    note: str = ""
    counts: TurnCounts = TurnCounts()
    created_at: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """One saved talk.

    Attributes:
        id: grows with every session of a store; never given twice.
        title: one line; empty until the first prompt gives it one.
        created_at: seconds since the epoch.
        updated_at: when a turn last began or ended, in seconds since the epoch.
        model: the name of the model used last.
        system_prompt: empty for none.
        head_turn_id: the last turn of the active branch; None for an empty one.
        turn_count: turns on all branches.
    """

    id: int
    title: str
    created_at: float
    updated_at: float
    model: str = ""
    system_prompt: str = ""
    head_turn_id: int | None = None
    turn_count: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionRecord:
    """A session with the turns of all its branches, as exported and imported.

    Attributes:
        session: the session.
        turns: all its turns, parents before children.
    """

    session: Session
    turns: tuple[Turn, ...] = ()

    def branch(self) -> tuple[Turn, ...]:
        """The turns of the active branch, oldest first."""
        turns = {turn.id: turn for turn in self.turns}
        found: list[Turn] = []
        turn_id = self.session.head_turn_id
        while turn_id is not None and (turn := turns.pop(turn_id, None)) is not None:
            found.append(turn)
            turn_id = turn.parent_id
        return tuple(reversed(found))


@dataclass(frozen=True, kw_only=True, slots=True)
class Holder:
    """Who writes in a session.

    Attributes:
        pid: the process; 0 where it could not be read.
        host: the machine it runs on.
        tty: its terminal; empty for none.
        since: when it took the session, in seconds since the epoch.
    """

    pid: int = 0
    host: str = ""
    tty: str = ""
    since: float = 0.0

    def __str__(self) -> str:
        """Name the holder for a person."""
        if not self.pid:
            return "another process"
        place = f" on {self.tty}" if self.tty else ""
        return f"process {self.pid}{place} at {self.host}"


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchHit:
    """One place where a searched text occurs.

    Attributes:
        session_id: the session.
        turn_id: the turn; None for a hit in the title.
        title: the session's.
        created_at: of the turn or the session, in seconds since the epoch.
        snippet: the text around the hit on one line (hostile until made safe to draw).
        start: where the hit begins in the snippet.
        end: where it ends.
    """

    session_id: int
    turn_id: int | None
    title: str
    created_at: float
    snippet: str
    start: int
    end: int
