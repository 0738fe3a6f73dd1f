from tests.tui.readings import GIB, gpu, ram, reading
from tui.settled import History, Settled

MIB = 1 << 20


def test_a_device_that_hardly_moved_keeps_its_figures() -> None:
    settled = Settled()
    first = reading(gpu())
    settled.take(first)
    settled.take(reading(gpu(used=41.3), memory=ram(used=18.3), at=101.0))
    assert settled.reading is not None
    assert settled.reading.gpus == first.gpus
    assert settled.reading.ram == first.ram
    assert settled.reading.at == 101.0


def test_a_slow_drift_is_shown_as_soon_as_it_has_come_far_enough() -> None:
    settled = Settled()
    for step in range(10):
        settled.take(reading(gpu(used=41.2 + step * 0.1)))
    assert settled.reading is not None
    assert abs(settled.reading.gpus[0].vram_used - 42.1 * GIB) < 0.3 * GIB


def test_a_device_that_moved_is_taken_whole_so_that_its_parts_add_up() -> None:
    settled = Settled()
    settled.take(reading(gpu()))
    moved = gpu(used=60, own=18.9)
    settled.take(reading(moved))
    assert settled.reading is not None
    assert settled.reading.gpus == (moved,)


def test_a_new_problem_or_a_new_gpu_is_shown_at_once() -> None:
    settled = Settled()
    settled.take(reading(gpu()))
    lost = gpu(problem="n/a (lost)")
    settled.take(reading(lost, gpu(1)))
    assert settled.reading is not None
    assert settled.reading.gpus == (lost, gpu(1))


def test_two_mib_of_the_engine_are_worth_a_repaint() -> None:
    settled = Settled()
    settled.take(reading())
    grown = ram()
    grown = type(grown)(
        total_bytes=grown.total_bytes,
        ram_used=grown.ram_used,
        engine_bytes=grown.engine_bytes + 3 * MIB,
        engine_anonymous_bytes=grown.engine_anonymous_bytes,
        page_cache_bytes=grown.page_cache_bytes,
        limit=grown.limit,
    )
    settled.take(reading(memory=grown))
    assert settled.reading is not None
    assert settled.reading.ram == grown


def test_a_minute_of_history_is_kept_in_steps_of_two_seconds() -> None:
    history = History()
    for second in range(200):
        history.note(reading(gpu(used=float(second) / 2), at=float(second)))
    shares = history.shares("GPU 0  H200")
    assert len(shares) == 30
    assert shares == tuple(sorted(shares))
    assert abs(shares[-1] * 139.8 - 99.5) < 0.01


def test_the_peak_of_a_step_is_kept_and_a_gap_repeats_the_step_before_it() -> None:
    history = History()
    history.note(reading(gpu(used=69.9), at=0.0))
    history.note(reading(gpu(used=1.0), at=1.0))
    history.note(reading(gpu(used=13.98), at=8.0))
    assert [round(share, 2) for share in history.shares("GPU 0  H200")] == [0.5, 0.5, 0.5, 0.5, 0.1]


def test_a_device_without_a_size_has_a_history_of_nothing() -> None:
    history = History()
    history.note(reading(type(gpu())(index=0, uuid="x", label="H200", problem="n/a (lost)")))
    assert history.shares("GPU 0  H200") == (0.0,)
    assert history.shares("GPU 7") == ()
