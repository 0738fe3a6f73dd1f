from __future__ import annotations

from engine.events import MemoryLedger, TextDelta, TurnFinished, TurnStarted
from engine.meter import TurnMeter
from engine.values import FinishReason, TurnUsage


def test_nothing_seen_is_nothing_used() -> None:
    assert TurnMeter().usage() == TurnUsage()


def test_counts_are_those_of_the_events_seen() -> None:
    meter = TurnMeter()
    meter.watch(TurnStarted(prompt_tokens=10, reused_tokens=4, context_window=64))
    meter.watch(TextDelta(text="a", completion_tokens=1))
    meter.watch(TextDelta(text="bc", completion_tokens=3))
    usage = meter.usage()
    assert (usage.prompt_tokens, usage.reused_tokens, usage.completion_tokens) == (10, 4, 3)
    assert (usage.context_used, usage.context_window) == (13, 64)
    assert usage.time_to_first_token > 0
    assert usage.decode_tps > 0


def test_the_ledger_knows_better_how_full_the_window_is() -> None:
    meter = TurnMeter()
    meter.watch(TurnStarted(prompt_tokens=10))
    meter.watch(MemoryLedger(devices=(), context_used=20))
    assert meter.usage().context_used == 20


def test_the_end_is_noticed() -> None:
    meter = TurnMeter()
    assert not meter.is_finished
    meter.watch(TurnFinished(finish_reason=FinishReason.STOP))
    assert meter.is_finished
