"""Turns as the transcript shows them: saved ones, and how one ended."""

from __future__ import annotations

from engine.events import TurnFinished
from engine.values import FinishReason
from sessions import Turn, TurnState
from tui.safe_text import SafeText, safe, safe_line
from tui.widgets.turn import PastTurn
from tui.widgets.turn_parts import TurnMark

_MARKS = {
    TurnState.STOPPED: TurnMark.STOPPED,
    TurnState.INTERRUPTED: TurnMark.INTERRUPTED,
    TurnState.FAILED: TurnMark.FAILED,
}
_MARKS_OF_REASONS = {
    FinishReason.CANCELLED: TurnMark.STOPPED,
    FinishReason.FAILED: TurnMark.FAILED,
    FinishReason.LENGTH: TurnMark.LENGTH,
}


def past_turn(turn: Turn) -> PastTurn:
    """A saved turn for the transcript."""
    by_length = TurnMark.LENGTH if turn.finish_reason == FinishReason.LENGTH.value else TurnMark.NONE
    return PastTurn(
        turn_key=str(turn.id),
        prompt=safe(turn.prompt),
        speaker=safe_line(turn.model),
        reply=safe(turn.reply),
        reasoning=safe(turn.reasoning),
        footer=_note(turn.counts.completion_tokens, turn.counts.decode_tps),
        mark=_MARKS.get(turn.state, by_length),
        sentence=safe_line(turn.note) if turn.state is TurnState.FAILED else safe(""),
    )


def finish_note(event: TurnFinished) -> SafeText:
    """What a reply cost: "212 tok · 31/s"."""
    return _note(event.usage.completion_tokens, event.usage.decode_tps)


def mark_of(event: TurnFinished) -> TurnMark:
    """How a reply ended, where that is worth a row."""
    return _MARKS_OF_REASONS.get(event.finish_reason, TurnMark.NONE)


def _note(tokens: int, speed: float) -> SafeText:
    if not tokens:
        return safe("")
    return safe(f"{tokens:,} tok · {speed:,.0f}/s" if speed else f"{tokens:,} tok")
