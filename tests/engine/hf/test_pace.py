from __future__ import annotations

import pytest

from engine.hf.decode import (
    CHUNK_SECONDS,
    CHUNK_SIZES,
    FIRST_CHUNK,
    FIRST_WATCHED_CHUNK,
    MOST_CHUNK_SECONDS,
    ChunkPace,
)
from engine.hf.ways import SLOW_STEP_SECONDS


@pytest.mark.parametrize("layers", [0, 1, 16, 200])
@pytest.mark.parametrize("per_token", [1e-5, 1e-4, 3e-4, 7e-4, 2e-3, 1e-2])
def test_chunks_are_of_few_sizes_and_take_the_time_they_should(per_token: float, layers: int) -> None:
    pace = ChunkPace()
    if layers:
        pace.looks_at(layers)
    for _ in range(12):
        pace.learn(pace.chunk, per_token * pace.chunk)
        assert pace.chunk in CHUNK_SIZES
    fitting = min(max(layers, 1) * CHUNK_SECONDS, MOST_CHUNK_SECONDS)
    assert pace.chunk * per_token <= fitting or pace.chunk == CHUNK_SIZES[0]
    larger = [size for size in CHUNK_SIZES if size > pace.chunk]
    assert not larger or larger[0] * per_token > fitting


def test_a_prompt_that_can_be_left_between_layers_begins_with_a_larger_chunk() -> None:
    pace = ChunkPace()
    pace.looks_at(16)
    assert pace.chunk == FIRST_WATCHED_CHUNK > FIRST_CHUNK
    small = ChunkPace()
    small.largest = 96
    small.looks_at(16)
    assert small.chunk == 96


def test_a_plan_can_hold_chunks_smaller() -> None:
    pace = ChunkPace()
    pace.largest = 128
    for _ in range(6):
        pace.learn(pace.chunk, 1e-6)
    assert pace.chunk == 128


def test_a_slow_step_takes_the_largest_chunk_that_the_plan_allows() -> None:
    pace = ChunkPace()
    assert pace.chunk == FIRST_CHUNK
    pace.largest = 256
    pace.note_step(2 * SLOW_STEP_SECONDS)
    assert pace.chunk == 256
    pace.learn(256, 60.0)
    assert pace.chunk == 256
