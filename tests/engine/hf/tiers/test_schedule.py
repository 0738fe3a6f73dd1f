"""Layers are in their buffers when they are needed, and link and device rarely wait for each other."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from engine.hf.tiers.schedule import Cost, StreamSchedule, ideal_seconds, spread_evenly
from tests.engine.hf.tiers.fake_link import FakeLink

SCHEDULES = 10_000
SEED = 20261121
WARM, PASSES = 4, 24
HOST_SECONDS = 5e-6
LAYER_BYTES = 436_000_000


def passes_seconds(
    costs: Sequence[Cost], buffers: int = 2, sync_seconds: float = 0.0
) -> tuple[float, FakeLink]:
    """Seconds of one pass of many, and the link that timed it."""
    order = [index for index, cost in enumerate(costs) if cost.copy]
    link = FakeLink({index: round(costs[index].copy * 1e9) for index in order}, 1e9, buffers)
    schedule = StreamSchedule(order, buffers, link)
    schedule.begin()
    warm = 0.0
    for turn in range(PASSES):
        if turn == WARM:
            warm = link.synchronize()
        for index, cost in enumerate(costs):
            link.host += HOST_SECONDS
            if cost.copy:
                link.compute(cost.compute, index, schedule.enter(index))
                schedule.leave()
            else:
                link.compute(cost.compute)
        link.synchronize()
        link.host += sync_seconds
    return (link.synchronize() - warm) / (PASSES - WARM), link


def layers(count: int, streamed: int, compute: float, copy: float) -> list[Cost]:
    chosen = set(spread_evenly(count, streamed))
    return [Cost(compute, copy if index in chosen else 0.0) for index in range(count)]


@pytest.mark.parametrize("bandwidth", [12e9, 25e9, 55e9])
@pytest.mark.parametrize("compute", [0.1e-3, 0.45e-3, 2.2e-3, 9e-3, 20e-3])
@pytest.mark.parametrize("streamed", [3, 8, 11, 20, 32])
def test_streams_an_8b_shape_within_a_tenth_of_the_ideal(
    bandwidth: float, compute: float, streamed: int
) -> None:
    """From one token on a fast GPU to a prompt of 2,048 on a slow one; the host samples for 100 us."""
    costs = layers(32, streamed, compute, LAYER_BYTES / bandwidth)
    seconds, link = passes_seconds(costs, sync_seconds=1e-4)
    assert ideal_seconds(costs) / seconds >= 0.9
    assert link.violations() == 0


def test_layers_of_unlike_durations_stay_within_a_tenth_of_the_ideal() -> None:
    random_ = random.Random(SEED)
    for _ in range(50):
        costs = [
            Cost(cost.compute * random_.uniform(0.8, 1.2), cost.copy * random_.uniform(0.8, 1.2))
            for cost in layers(32, random_.choice([8, 16, 32]), random_.uniform(0.1e-3, 2e-3), 10e-3)
        ]
        assert ideal_seconds(costs) / passes_seconds(costs)[0] >= 0.9


def test_without_reading_ahead_the_ideal_is_missed() -> None:
    costs = layers(32, 32, 5e-3, 5e-3)
    assert ideal_seconds(costs) / passes_seconds(costs, buffers=1)[0] < 0.6


def test_a_layer_per_buffer_is_copied_once() -> None:
    _, link = passes_seconds(layers(8, 2, 1e-3, 1e-3), buffers=2)
    assert len(link.writes) == 2


def test_a_pass_copies_each_streamed_layer_once() -> None:
    _, link = passes_seconds(layers(9, 5, 1e-3, 1e-3), buffers=2)
    assert len(link.writes) == 5 * PASSES + 2


class CarelessLink(FakeLink):
    """A link that forgets what still reads a buffer."""

    def release(self, buffer: int) -> None:
        """Mark nothing."""


class HastyLink(FakeLink):
    """A link whose computing does not wait for copies."""

    def wait(self, buffer: int) -> None:
        """Wait for nothing."""


@pytest.mark.parametrize("careless", [CarelessLink, HastyLink])
def test_a_link_that_does_not_wait_is_found_out(careless: type[FakeLink]) -> None:
    random_ = random.Random(SEED)
    assert sum(_random_run(random_, careless).violations() for _ in range(100)) > 100


def test_no_buffer_is_overwritten_before_use_in_ten_thousand_random_schedules() -> None:
    random_ = random.Random(SEED)
    reads = 0
    for number in range(SCHEDULES):
        link = _random_run(random_, FakeLink)
        reads += len(link.reads)
        assert link.violations() == 0, f"schedule {number} of seed {SEED}"
    assert reads > 5 * SCHEDULES


def _random_run(random_: random.Random, kind: type[FakeLink]) -> FakeLink:
    """Run forwards over a random pattern; some are left halfway, some begin anywhere, orders change."""
    count, buffers = random_.randint(1, 12), random_.randint(1, 4)
    link = kind(
        {layer: random_.randint(1, 100) for layer in range(count)}, random_.choice([1.0, 10.0]), buffers
    )
    everything = list(range(count))
    some = sorted(random_.sample(everything, random_.randint(1, count)))
    schedule = StreamSchedule(some, buffers, link)
    if random_.random() < 0.5:
        schedule.begin()
    for _ in range(random_.randint(1, 5)):
        order = random_.choice([some, everything])
        schedule.follow(order)
        _random_forward(random_, schedule, link, (count, order))
    return link


def _random_forward(
    random_: random.Random, schedule: StreamSchedule, link: FakeLink, shape: tuple[int, list[int]]
) -> None:
    count, order = shape
    first = random_.choice([0, 0, 0, random_.randrange(count)])
    last = random_.choice([count, count, random_.randint(first, count)])
    for layer in range(first, last):
        link.host += random_.choice([0.0, 0.0, 30.0])
        if layer not in order:
            link.compute(random_.uniform(0.0, 50.0))
            continue
        link.compute(random_.uniform(0.0, 50.0), layer, schedule.enter(layer))
        if random_.random() < 0.05:
            return
        schedule.leave()
    if random_.random() < 0.7:
        link.synchronize()
