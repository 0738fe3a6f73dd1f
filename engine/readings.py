"""What the memory panel shows of one moment: frozen values, free to be dropped."""

from __future__ import annotations

from engine.values import Value


class GpuReading(Value, frozen=True, kw_only=True):
    """One GPU at one moment; the parts add up to what NVML says is used.

    Attributes:
        index: CUDA's index among the GPUs this process may use, the N of "gpu:N".
        uuid: NVML's name of the device.
        label: product name, shortened ("H200").
        vram_total: bytes of the device.
        vram_used: bytes in use by anyone.
        own_bytes: of vram_used, the engine process's; None where the driver does not say.
        others_bytes: of vram_used, all other processes' together, driver included.
        problem: why a figure is missing ("n/a (reason)"); empty when all is well.
    """

    index: int
    uuid: str
    label: str
    vram_total: int = 0
    vram_used: int = 0
    own_bytes: int | None = None
    others_bytes: int = 0
    problem: str = ""


class RamReading(Value, frozen=True, kw_only=True):
    """RAM at one moment, within the tightest limit that holds for this process.

    Attributes:
        total_bytes: of the machine, or of the cgroup where that is less.
        ram_used: of total_bytes, in use and not reclaimable.
        engine_bytes: resident memory of the engine process, mapped files included.
        engine_anonymous_bytes: of engine_bytes, not backed by a file.
        page_cache_bytes: reclaimable file pages.
        limit: "machine", "cgroup v1" or "cgroup v2".
    """

    total_bytes: int
    ram_used: int
    engine_bytes: int = 0
    engine_anonymous_bytes: int = 0
    page_cache_bytes: int = 0
    limit: str = "machine"


class MemoryReading(Value, frozen=True, kw_only=True):
    """Everything the memory panel shows of one moment; may be dropped.

    Attributes:
        at: seconds of the monotonic clock.
        ram: this machine's RAM.
        gpus: one entry per visible GPU, in CUDA's order where it is known.
        disk_read_bps: bytes per second the engine process reads from disks.
        gpu_note: why there are no GPUs to show ("no NVIDIA driver"); empty when there are.
    """

    at: float
    ram: RamReading
    gpus: tuple[GpuReading, ...] = ()
    disk_read_bps: float = 0.0
    gpu_note: str = ""
