"""What the command line asks of the chat."""

from __future__ import annotations

import msgspec

from engine.values import BudgetRequest, CodeFile, Quantization


class ChatOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a chat begins.

    Attributes:
        model: a folder, a hub name, a name from `vramble models`, or `guide`; None takes the last one used.
        session: id of the session to resume; None begins a new one.
        resume_last: resume the session that was written to last.
        context_window: tokens; None takes the engine's default for the checkpoint.
        quantization: how linear weights are to be stored.
        budgets: what the person allows of each device.
        plain: lines instead of a screen.
        trusted: code that the command line lets run, without a question.
        theme: a palette for this time; None takes the settings'.
    """

    model: str | None = None
    session: str | None = None
    resume_last: bool = False
    context_window: int | None = None
    quantization: Quantization = Quantization.NONE
    budgets: BudgetRequest = BudgetRequest()
    plain: bool = False
    trusted: tuple[CodeFile, ...] = ()
    theme: str | None = None
