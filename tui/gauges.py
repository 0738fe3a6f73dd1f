"""What each device holds, as parts that add up: arithmetic between readings, the ledger and the panel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from tui.safe_text import SafeText, safe_line

if TYPE_CHECKING:
    from engine import GpuReading, MemoryReading, RamReading
    from engine.events import MemoryLedger
    from engine.values import DeviceLedger

_WORTH_A_CELL = 0.1


class Part(NamedTuple):
    """One share of a device.

    Attributes:
        name: a colour of the palette ("kv").
        label: what the legend calls it ("KV").
        size_bytes: never negative.
    """

    name: str
    label: str
    size_bytes: int


class Gauge(NamedTuple):
    """One device at one moment; the parts add up to total_bytes.

    Attributes:
        title: "GPU 0  H200" or "RAM".
        used_bytes: what the title line says is used.
        total_bytes: of the device.
        parts: in the order they are drawn, what is free last.
        note: after the figures ("cgroup"), or why there are none.
        is_known: the figures could be read.
    """

    title: SafeText
    used_bytes: int = 0
    total_bytes: int = 0
    parts: tuple[Part, ...] = ()
    note: SafeText = safe_line("")
    is_known: bool = True


def device_gauges(reading: MemoryReading, ledger: MemoryLedger | None) -> list[Gauge]:
    """One gauge per GPU and one for RAM; a GPU's entry in the ledger is found by UUID, then by name."""
    entries = ledger.devices if ledger else ()
    gauges = [_gpu_gauge(gpu, _entry(entries, f"gpu:{gpu.index}", gpu.uuid)) for gpu in reading.gpus]
    return [*gauges, _ram_gauge(reading.ram, _entry(entries, "ram", ""))]


def _entry(entries: Sequence[DeviceLedger], device: str, uuid: str) -> DeviceLedger | None:
    by_uuid = (entry for entry in entries if uuid and entry.uuid == uuid)
    by_name = (entry for entry in entries if entry.device == device and not (uuid and entry.uuid))
    return next(by_uuid, None) or next(by_name, None)


def gpu_title(gpu: GpuReading) -> SafeText:
    """What the panel calls a GPU: "GPU 0  H200"."""
    return safe_line(f"GPU {gpu.index}  {gpu.label}")


def _gpu_gauge(gpu: GpuReading, entry: DeviceLedger | None) -> Gauge:
    title = gpu_title(gpu)
    if gpu.problem:
        return Gauge(title, note=safe_line(gpu.problem), is_known=False)
    used = min(max(gpu.vram_used, 0), gpu.vram_total)
    weights, kv, activations = _own_parts(entry, _share_of(used, gpu.own_bytes, entry))
    parts = (
        Part("weights", "weights", weights),
        Part("kv", "KV", kv),
        Part("activations", "act", activations),
        Part("others", "others", used - weights - kv - activations),
        Part("free", "free", gpu.vram_total - used),
    )
    return Gauge(title, used, gpu.vram_total, parts)


def _share_of(used: int, own_bytes: int | None, entry: DeviceLedger | None) -> int:
    """The engine's bytes: what the driver says, or what the ledger claims, within what is used."""
    if own_bytes is None and entry is not None:
        own_bytes = entry.weight_bytes + entry.kv_bytes + entry.other_bytes
    return min(max(own_bytes or 0, 0), used)


def _own_parts(entry: DeviceLedger | None, own: int) -> tuple[int, int, int]:
    """Weights, KV cache and the rest of `own`; a ledger older than the reading is cut to fit."""
    if entry is None:
        return 0, 0, own
    weights = min(max(entry.weight_bytes, 0), own)
    kv = min(max(entry.kv_bytes, 0), own - weights)
    return weights, kv, own - weights - kv


def _ram_gauge(ram: RamReading, entry: DeviceLedger | None) -> Gauge:
    """RAM; weights that are views of a file lie in the page cache, and are shown as weights."""
    used = min(max(ram.ram_used, 0), ram.total_bytes)
    cache = min(max(ram.page_cache_bytes, 0), ram.total_bytes - used)
    anonymous = min(max(ram.engine_anonymous_bytes, 0), used)
    mapped = _mapped_weights(ram, entry, cache)
    rest = entry and _without(entry, mapped)
    weights, kv, others_of_engine = _own_parts(rest, anonymous)
    parts = (
        Part("weights", "weights", weights + mapped),
        Part("kv", "KV", kv),
        Part("activations", "engine", others_of_engine),
        Part("others", "others", used - anonymous),
        Part("page-cache", "cache", cache - mapped),
        Part("free", "free", ram.total_bytes - used - cache),
    )
    note = "cgroup" if ram.limit.startswith("cgroup") else ""
    return Gauge(safe_line("RAM"), used + mapped, ram.total_bytes, parts, safe_line(note))


def _mapped_weights(ram: RamReading, entry: DeviceLedger | None, cache: int) -> int:
    mapped = max(ram.engine_bytes - ram.engine_anonymous_bytes, 0)
    return min(max(entry.weight_bytes, 0), mapped, cache) if entry else 0


def _without(entry: DeviceLedger, mapped: int) -> DeviceLedger:
    return type(entry)(device=entry.device, weight_bytes=entry.weight_bytes - mapped, kv_bytes=entry.kv_bytes)


def joined(gauges: Sequence[Gauge]) -> Gauge:
    """Several GPUs as one, for where there is one line."""
    known = [gauge for gauge in gauges if gauge.is_known]
    if len(gauges) == 1 or not known:
        return gauges[0]
    parts = tuple(
        Part(part.name, part.label, sum(gauge.parts[index].size_bytes for gauge in known))
        for index, part in enumerate(known[0].parts)
    )
    used, total = (
        sum(figures) for figures in zip(*((g.used_bytes, g.total_bytes) for g in known), strict=True)
    )
    return Gauge(safe_line(f"GPU ×{len(gauges)}"), used, total, parts)


def cells(gauge: Gauge, width: int) -> list[tuple[str, int]]:
    """How many of `width` cells each part takes, largest remainder first; together always `width`.

    A part of at least a tenth of a cell is never invisible.
    """
    if gauge.total_bytes <= 0 or width <= 0:
        return []
    exact = [part.size_bytes * width / gauge.total_bytes for part in gauge.parts]
    taken = [max(int(share), 1 if share >= _WORTH_A_CELL else 0) for share in exact]
    while sum(taken) < width:
        taken[_most(exact, taken)] += 1
    while sum(taken) > width:
        taken[taken.index(max(taken))] -= 1
    return [(part.name, count) for part, count in zip(gauge.parts, taken, strict=True) if count]


def _most(exact: list[float], taken: list[int]) -> int:
    lacking = [share - count for share, count in zip(exact, taken, strict=True)]
    return lacking.index(max(lacking))
