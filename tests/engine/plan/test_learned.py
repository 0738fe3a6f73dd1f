"""What is learned from loads and replies, and how far it may go."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.plan.forecast import Pace, forecast_of, ratio_key
from engine.plan.kept import FARTHEST, MOST_RATIOS, keep_ratios, kept_ratios
from engine.plan.learned import Lessons
from engine.plan.limits import machine_key, machine_limits
from engine.values import LayerPlacement, Placement, Tier, TurnUsage
from tests.engine.plan.making import model

FOOTPRINT = model()
LAYERS = tuple(
    LayerPlacement(name=module.name, bytes=module.plain_bytes, tier=Tier.CPU, device="ram")
    for module in FOOTPRINT.modules
)
PLACEMENT = Placement(context_window=4096, layers=LAYERS)
KEY = ratio_key(FOOTPRINT, LAYERS)
FILES = sum(module.plain_bytes for module in FOOTPRINT.modules)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VRAMBLE_HOME", str(tmp_path))
    return tmp_path


def reply(slower: float = 1.0, tokens: int = 32) -> TurnUsage:
    """One that took so many times longer than predicted."""
    predicted = Pace(FOOTPRINT, machine_limits()).step_seconds(LAYERS, 1000)
    return TurnUsage(
        completion_tokens=tokens,
        decode_tps=1 / (slower * predicted),
        context_used=1000 + tokens // 2,
        context_window=4096,
    )


def learned() -> tuple[float, float] | None:
    return kept_ratios(machine_key()).get(KEY)


def test_replies_that_take_longer_bring_the_forecast_closer_each_time() -> None:
    lessons = Lessons(FOOTPRINT, PLACEMENT)
    steps = []
    for _ in range(6):
        lessons.note_turn(reply(slower=2.0))
        told = learned()
        assert told is not None
        steps.append(told[0])
    assert steps == sorted(steps)
    assert steps[-1] == pytest.approx(2.0, rel=0.02)
    assert forecast_of(FOOTPRINT, LAYERS, 4096, machine_limits()).is_learned


def test_a_short_reply_and_one_that_was_not_timed_teach_nothing() -> None:
    lessons = Lessons(FOOTPRINT, PLACEMENT)
    lessons.note_turn(reply(slower=2.0, tokens=15))
    lessons.note_turn(TurnUsage(completion_tokens=99))
    assert learned() is None


def test_one_wild_reply_is_cut_to_the_bound() -> None:
    lessons = Lessons(FOOTPRINT, PLACEMENT)
    for slower in (1e6, 1e6):
        lessons.note_turn(reply(slower=slower))
    assert learned() == (FARTHEST, 1.0)


def test_a_load_teaches_where_its_files_came_from_the_disk() -> None:
    predicted = forecast_of(FOOTPRINT, LAYERS, 4096, machine_limits()).load_seconds
    lessons = Lessons(FOOTPRINT, PLACEMENT)
    lessons.note_load(2 * predicted, read_bytes=FILES // 2)
    assert learned() is None
    lessons.note_load(2 * predicted, read_bytes=FILES)
    told = learned()
    assert told is not None
    assert told == pytest.approx((1.0, 2**0.5))


def test_what_was_learned_before_does_not_count_twice() -> None:
    Lessons(FOOTPRINT, PLACEMENT).note_turn(reply(slower=2.0))
    before = learned()
    Lessons(FOOTPRINT, PLACEMENT).note_turn(reply(slower=2.0))
    after = learned()
    assert before is not None
    assert after is not None
    assert before[0] < after[0] < 2.0


def test_only_the_newest_are_kept() -> None:
    keep_ratios(machine_key(), {f"{number}": (1.0, 1.0) for number in range(MOST_RATIOS + 1)})
    kept = kept_ratios(machine_key())
    assert len(kept) == MOST_RATIOS
    assert "0" not in kept


@pytest.mark.parametrize("content", [b"{", b"[1]", b'{"a": [1, "b"]}', b'{"a": [1e9, 1.0], "b": [0, 1]}'])
def test_a_damaged_file_teaches_nothing(home: Path, content: bytes) -> None:
    keep_ratios(machine_key(), {KEY: (2.0, 1.0)})
    (path,) = (home / "cache").glob("learned-*.json")
    path.write_bytes(content)
    assert kept_ratios(machine_key()) == {}
