import pytest
from textual.geometry import Region
from textual.pilot import Pilot
from textual.widgets import Static

from tests.tui.readings import Shown, gpu, ledger, ram, reading
from themes import theme_named
from tui.widgets.memory_panel import MemoryPanel


class Watched(MemoryPanel):
    """A panel that keeps the regions it asks to be repainted."""

    def __init__(self) -> None:
        super().__init__()
        self.painted: list[Region] = []

    def refresh(self, *regions: Region, **options: bool) -> "Watched":
        self.painted += regions
        super().refresh(*regions, **options)
        return self


def lines(panel: MemoryPanel) -> list[str]:
    region = panel.outer_size.region
    return [strip.text.strip() for strip in panel.render_lines(region) if strip.text.strip()]


async def settle(pilot: Pilot[None], panel: MemoryPanel) -> None:
    for _ in range(200):
        await pilot.pause(0.02)
        if panel._due is None:
            return
    pytest.fail("the panel never painted")


async def shown(size: tuple[int, int], *gpus: object, note: str = "") -> list[str]:
    panel = MemoryPanel()
    app = Shown(panel)
    async with app.run_test(size=size) as pilot:
        panel.show_ledger(ledger())
        panel.show_reading(reading(*gpus, note=note))  # type: ignore[arg-type]  # GpuReadings
        await settle(pilot, panel)
        return lines(panel)


async def test_the_panel_shows_each_device_its_parts_and_its_last_minute() -> None:
    found = await shown((34, 20), gpu())
    assert found[0] == "GPU 0  H200     41.2 / 139.8 GiB"
    assert found[2:4] == ["weights 12.3 · KV 3.1 · act 3.4", "others 22.4 · free 98.6"]
    assert found[4].endswith("60 s")
    assert found[5] == "RAM cgroup      24.3 / 123.0 GiB"
    assert found[-1] == "disk               read 3.7 GB/s"


async def test_without_a_gpu_the_reason_stands_where_the_gpus_would() -> None:
    found = await shown((34, 20), note="no NVIDIA driver: the library is missing")
    assert found[:2] == ["GPU  no NVIDIA driver: the", "library is missing"]
    assert found[2].startswith("RAM")


async def test_a_gpu_that_fails_says_so_and_the_others_are_shown() -> None:
    found = await shown((60, 20), gpu(0, problem="n/a (driver gone)"), gpu(1))
    assert found[0] == "GPU 0  H200  n/a (driver gone)"
    assert found[1].startswith("GPU 1")


@pytest.mark.parametrize(("height", "first_row"), [(40, "GPU 0  H200"), (22, "GPU 0  H200"), (12, "GPU 0 ")])
async def test_eight_gpus_are_drawn_with_as_much_detail_as_there_is_room(height: int, first_row: str) -> None:
    found = await shown((34, height), *(gpu(index) for index in range(8)))
    assert found[0].startswith(first_row)
    assert len(found) <= height
    assert any(row.startswith("GPU 7") for row in found)
    assert found[-1].startswith("disk")


async def test_two_rows_hold_the_sum_of_the_gpus_and_ram() -> None:
    found = await shown((80, 2), gpu(0), gpu(1))
    assert found[0].startswith("GPU ×2 █")
    assert found[0].endswith("82.4 / 279.6 GiB")
    assert found[1].startswith("RAM █")


async def test_two_rows_without_a_gpu_hold_ram_and_its_legend() -> None:
    found = await shown((100, 2), note="no NVIDIA driver")
    assert found[0].startswith("RAM █")
    assert found[1] == (
        "weights 6.1 · KV .2 · engine 1.8 · others 16.2 · cache 17.9 · free 80.8 · disk 3.7 GB/s"
    )


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (5, 1), (20, 5), (300, 100)])
async def test_no_size_is_too_small(size: tuple[int, int]) -> None:
    found = await shown(size, gpu(0), gpu(1, problem="n/a (lost)"), note="x")
    assert len(found) <= size[1]


async def test_before_the_first_reading_nothing_is_drawn() -> None:
    panel = MemoryPanel()
    async with Shown(panel).run_test(size=(34, 20)):
        assert lines(panel) == []


async def test_an_equal_reading_repaints_nothing_and_a_small_change_its_cells() -> None:
    panel = Watched()
    async with Shown(panel).run_test(size=(34, 20)) as pilot:
        panel.show_reading(reading(gpu()))
        panel.show_ledger(ledger())
        await settle(pilot, panel)
        panel.painted.clear()
        panel.show_reading(reading(gpu(used=41.21), memory=ram(used=18.21), at=100.5))
        await settle(pilot, panel)
        assert panel.painted == []
        panel.show_ledger(ledger(kv=3.2))
        await settle(pilot, panel)
        assert panel.painted == [Region(1 + 20, 2, 11, 1)]


async def test_many_readings_are_one_repaint() -> None:
    panel = Watched()
    async with Shown(panel).run_test(size=(34, 20)) as pilot:
        panel.show_reading(reading(gpu()))
        await settle(pilot, panel)
        panel.painted.clear()
        for step in range(100):
            panel.show_reading(reading(gpu(used=50.0 + step / 4)))
        assert panel.painted == []
        assert panel._due is not None
        await settle(pilot, panel)
        rows = [region.y for region in panel.painted]
        assert len(rows) == len(set(rows))
        assert lines(panel)[0].startswith("GPU 0  H200     74.")


async def test_a_resize_draws_for_the_new_width() -> None:
    panel = MemoryPanel()
    async with Shown(panel).run_test(size=(34, 20)) as pilot:
        panel.show_reading(reading(gpu()))
        await settle(pilot, panel)
        await pilot.resize_terminal(60, 20)
        await pilot.pause()
        assert all(len(row) <= 58 for row in lines(panel))
        assert lines(panel)[0] == "GPU 0  H200" + " " * 31 + "41.2 / 139.8 GiB"


async def test_another_theme_changes_the_colours() -> None:
    panel = MemoryPanel()
    app = Shown(panel)
    async with app.run_test(size=(34, 20)) as pilot:
        panel.show_reading(reading(gpu()))
        panel.show_ledger(ledger())
        await settle(pilot, panel)
        before = bar_colour(panel)
        app.register_theme(theme_named("paper"))
        app.theme = "paper"
        await pilot.pause()
        assert (before, bar_colour(panel)) == ("#7ea6d8", "#2b5c94")


def bar_colour(panel: MemoryPanel) -> str:
    return next(s.style.color.name for s in panel.render_line(1) if s.style and s.style.color)


async def test_no_color_draws_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert (await shown((34, 20), gpu()))[1].startswith("███▓▒░")


async def test_an_unmounted_panel_takes_readings_and_draws_them_when_it_is_shown() -> None:
    panel = MemoryPanel()
    panel.show_reading(reading(gpu()))
    async with Shown(Static("x"), panel).run_test(size=(34, 20)) as pilot:
        await pilot.pause()
        assert lines(panel)[0].startswith("GPU 0")


async def test_the_engine_s_own_change_is_shown_sooner_than_other_people_s() -> None:
    panel = MemoryPanel()
    async with Shown(panel).run_test(size=(34, 20)) as pilot:
        panel.show_reading(reading(gpu()))
        await settle(pilot, panel)
        panel.show_reading(reading(gpu(used=60.0)))
        assert panel._due_at - panel._painted_at == pytest.approx(2.0)
        panel.show_reading(reading(gpu(used=61.0, own=19.8)))
        assert panel._due_at - panel._painted_at == pytest.approx(0.5)
        panel.show_reading(reading(gpu(used=90.0, own=19.8)))
        assert panel._due_at - panel._painted_at == pytest.approx(0.5)
