"""Readings, ledgers and an app to show widgets in, for the tests of the memory panel."""

from textual.app import App, ComposeResult
from textual.widget import Widget

from engine import GpuReading, MemoryReading, RamReading
from engine.events import MemoryLedger
from engine.values import DeviceLedger
from themes import theme_named

GIB = 1 << 30


def gpu(index: int = 0, used: float = 41.2, own: float | None = 18.8, problem: str = "") -> GpuReading:
    return GpuReading(
        index=index,
        uuid=f"GPU-{index}",
        label="H200",
        vram_total=int(139.8 * GIB),
        vram_used=int(used * GIB),
        own_bytes=None if own is None else int(own * GIB),
        others_bytes=int(22.4 * GIB),
        problem=problem,
    )


def ram(used: float = 18.2, cache: float = 24.0, limit: str = "cgroup v2") -> RamReading:
    return RamReading(
        total_bytes=123 * GIB,
        ram_used=int(used * GIB),
        engine_bytes=9 * GIB,
        engine_anonymous_bytes=2 * GIB,
        page_cache_bytes=int(cache * GIB),
        limit=limit,
    )


def reading(
    *gpus: GpuReading, at: float = 100.0, note: str = "", memory: RamReading | None = None
) -> MemoryReading:
    return MemoryReading(at=at, ram=memory or ram(), gpus=gpus, gpu_note=note, disk_read_bps=3.7e9)


def ledger(
    weights: float = 12.3, kv: float = 3.1, uuid: str = "GPU-0", ram_weights: float = 6.1
) -> MemoryLedger:
    on_gpu = DeviceLedger(
        device="gpu:0", uuid=uuid, weight_bytes=int(weights * GIB), kv_bytes=int(kv * GIB), other_bytes=GIB
    )
    in_ram = DeviceLedger(device="ram", weight_bytes=int(ram_weights * GIB), kv_bytes=GIB // 5)
    return MemoryLedger(devices=(on_gpu, in_ram))


class Shown(App[None]):
    """One widget on a screen, in a palette of the product."""

    CSS = "Screen { background: $background; }"

    def __init__(self, *widgets: Widget, theme: str = "vramble") -> None:
        super().__init__()
        self.animation_level = "none"
        self.widgets = widgets
        self.register_theme(theme_named(theme))
        self.theme = theme

    def compose(self) -> ComposeResult:
        yield from self.widgets
