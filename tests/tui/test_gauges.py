from hypothesis import given
from hypothesis import strategies as st

from engine import GpuReading, MemoryReading, RamReading
from engine.events import MemoryLedger
from engine.values import DeviceLedger
from tests.tui.readings import GIB, gpu, ledger, ram, reading
from tui.gauges import Gauge, cells, device_gauges, joined

AMOUNTS = st.integers(min_value=0, max_value=200 * GIB)
LEDGERS = st.builds(
    lambda weights, kv, other: MemoryLedger(
        devices=tuple(
            DeviceLedger(device=device, uuid=uuid, weight_bytes=weights, kv_bytes=kv, other_bytes=other)
            for device, uuid in (("gpu:0", "GPU-0"), ("ram", ""))
        )
    ),
    AMOUNTS,
    AMOUNTS,
    AMOUNTS,
)
READINGS = st.builds(
    lambda total, used, own, ram_total, rest: MemoryReading(
        at=1.0,
        ram=RamReading(
            total_bytes=ram_total,
            ram_used=rest[0],
            engine_bytes=rest[1],
            engine_anonymous_bytes=rest[2],
            page_cache_bytes=rest[3],
        ),
        gpus=(GpuReading(index=0, uuid="GPU-0", label="X", vram_total=total, vram_used=used, own_bytes=own),),
    ),
    AMOUNTS,
    AMOUNTS,
    st.none() | AMOUNTS,
    AMOUNTS,
    st.tuples(AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS),
)


def sizes(gauge: Gauge) -> dict[str, int]:
    return {part.name: part.size_bytes for part in gauge.parts}


@given(READINGS, st.none() | LEDGERS)
def test_the_parts_of_every_device_add_up_and_none_is_negative(
    now: MemoryReading, told: MemoryLedger | None
) -> None:
    for gauge in device_gauges(now, told):
        assert all(part.size_bytes >= 0 for part in gauge.parts)
        assert sum(part.size_bytes for part in gauge.parts) == gauge.total_bytes


@given(READINGS, st.none() | LEDGERS)
def test_what_is_not_free_on_a_gpu_is_exactly_what_nvml_says_is_used(
    now: MemoryReading, told: MemoryLedger | None
) -> None:
    gauge = device_gauges(now, told)[0]
    used = sum(size for name, size in sizes(gauge).items() if name != "free")
    assert used == min(now.gpus[0].vram_used, now.gpus[0].vram_total)


def test_the_ledger_splits_the_engine_s_share_and_the_rest_is_others() -> None:
    found = sizes(device_gauges(reading(gpu()), ledger())[0])
    assert found["weights"] == int(12.3 * GIB)
    assert found["kv"] == int(3.1 * GIB)
    assert found["activations"] == int(18.8 * GIB) - found["weights"] - found["kv"]
    assert found["others"] == int(41.2 * GIB) - int(18.8 * GIB)


def test_where_the_driver_names_no_process_the_ledger_says_what_is_ours() -> None:
    found = sizes(device_gauges(reading(gpu(own=None)), ledger())[0])
    assert found["activations"] == GIB
    assert found["others"] == int(41.2 * GIB) - int(12.3 * GIB) - int(3.1 * GIB) - GIB


def test_a_ledger_of_another_gpu_is_not_taken_for_this_one() -> None:
    found = sizes(device_gauges(reading(gpu()), ledger(uuid="GPU-9"))[0])
    assert found["weights"] == found["kv"] == 0
    assert found["activations"] == int(18.8 * GIB)


def test_a_ledger_without_uuid_is_found_by_the_device_s_name() -> None:
    assert sizes(device_gauges(reading(gpu()), ledger(uuid=""))[0])["weights"] == int(12.3 * GIB)


def test_weights_that_are_views_of_a_file_are_taken_from_the_page_cache() -> None:
    gauge = device_gauges(reading(), ledger())[-1]
    found = sizes(gauge)
    assert found["weights"] == int(6.1 * GIB)
    assert found["page-cache"] == 24 * GIB - int(6.1 * GIB)
    assert found["kv"] == GIB // 5
    assert gauge.used_bytes == int(18.2 * GIB) + int(6.1 * GIB)
    assert gauge.note == "cgroup"


def test_ram_of_a_whole_machine_has_no_note() -> None:
    assert device_gauges(reading(memory=ram(limit="machine")), None)[-1].note == ""


def test_a_gpu_that_cannot_be_read_says_why() -> None:
    gauge = device_gauges(reading(gpu(problem="n/a (driver gone)")), None)[0]
    assert not gauge.is_known
    assert gauge.note == "n/a (driver gone)"


def test_a_hostile_product_name_is_made_harmless() -> None:
    evil = GpuReading(index=0, uuid="x", label="H\x1b[31m200\n", vram_total=1, vram_used=0)
    assert device_gauges(reading(evil), None)[0].title == "GPU 0  H␛[31m200 "


def test_several_gpus_are_joined_into_one_sum_of_those_that_are_known() -> None:
    gauges = device_gauges(reading(gpu(0), gpu(1), gpu(2, problem="n/a (lost)")), ledger())[:-1]
    one = joined(gauges)
    assert one.title == "GPU ×3"
    assert one.used_bytes == 2 * int(41.2 * GIB)
    assert sum(part.size_bytes for part in one.parts) == one.total_bytes
    assert joined(gauges[:1]) is gauges[0]
    assert joined(gauges[2:]) is gauges[2]


@given(READINGS, st.integers(min_value=0, max_value=200))
def test_a_bar_is_exactly_as_wide_as_asked(now: MemoryReading, width: int) -> None:
    for gauge in device_gauges(now, None):
        wanted = width if gauge.total_bytes else 0
        assert sum(count for _, count in cells(gauge, width)) == wanted


def test_a_part_of_a_tenth_of_a_cell_is_seen_and_a_smaller_one_is_not() -> None:
    counts = dict(cells(device_gauges(reading(gpu(used=139, own=1.0)), ledger(weights=0.5, kv=0.1))[0], 30))
    assert counts["weights"] == 1
    assert "kv" not in counts
