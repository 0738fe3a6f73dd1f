"""This machine's limits, measured once, or typical figures in their place."""

from __future__ import annotations

import msgspec

from engine.value import Value

_DISTURBED_SHARE = 0.1


class GpuLimits(Value, frozen=True, kw_only=True):
    """One GPU's limits.

    Attributes:
        uuid: NVML's name of it; empty for one that is only planned for.
        label: its name.
        vram_bandwidth: bytes read per second.
        link_bandwidth: bytes per second from RAM, as the loader's copies go.
        flops: multiply-adds count twice, per second, by dtype ("bfloat16").
        op_seconds: host and launch time of one dispatched operation.
        context_bytes: of its CUDA context and library workspaces.
        device: "gpu:0", as the budgets call it; empty where it was measured without a plan.
        is_measured: the figures were measured on this very GPU; typical ones otherwise.
    """

    uuid: str = ""
    label: str = ""
    vram_bandwidth: float
    link_bandwidth: float
    flops: dict[str, float]
    op_seconds: float
    context_bytes: int
    device: str = ""
    is_measured: bool = False


class MachineLimits(Value, frozen=True, kw_only=True):
    """What this machine can do at best, by the ways the engine goes.

    Figures by storage have the keys "bfloat16", "float16", "float32", "int8" and "nf4"; those of the
    first three with " columns" added are of matrices that lie the other way round (GPT-2's).

    Attributes:
        measured_at: seconds since the epoch; 0 for typical figures.
        versions: of torch and transformers that measured, and of this measurement.
        ram_bandwidth: bytes read per second by all threads.
        linear_bandwidth: weight bytes per second of one token through linear layers on the CPU, by storage.
        linear_seconds: of one such layer, beside its bytes and its dispatch, by storage.
        flops: of matrix products of a prefill chunk on the CPU, by storage.
        attention_bandwidth: KV bytes per second that one token's attention reads on the CPU, by dtype.
        attention_flops: of one token's fused attention on the CPU, by dtype.
        eager_bandwidth: key and value bytes per second, one per query head, of attention in steps, by dtype.
        cache_bandwidth: KV bytes per second that appending one token copies.
        op_seconds: of one dispatched operation on the CPU.
        native_bandwidth: weight bytes per second that our own kernels decode with, by dtype or quantization;
            empty where they cannot be had, as the next two.
        native_attention_bandwidth: KV bytes per second of their attention, by dtype.
        native_op_seconds: of one of their operations, beside its bytes.
        disk_bandwidth: bytes per second of large direct reads, several at once.
        read_bandwidth: of one reader through the page cache, as a load reads.
        mapped_bandwidth: bytes per second of pages of a mapped file that are not cached.
        cached_bandwidth: bytes per second of pages that are, when they are first touched.
        copy_bandwidth: bytes per second that are copied to memory that is new to the process.
        tensor_seconds: to open and fetch one tensor of a file with 300, beside its bytes.
        quantize_bandwidth: bytes per second of bfloat16 that are packed on load, by quantization.
        ram_runtime_bytes: of the engine process before any model.
        waited_share: of the time of measuring, how long its threads waited for a core that others used.
        gpus: one per GPU.
        page_cache_bytes: RAM that may hold pages of files now; 0 where nobody looked.
        learned: measured by predicted seconds, of (a token, a load from files that were not cached), by
            what `engine.plan.learned.key_of` names.
    """

    measured_at: float = 0.0
    versions: str = ""
    ram_bandwidth: float
    linear_bandwidth: dict[str, float]
    linear_seconds: dict[str, float] = msgspec.field(default_factory=dict)
    flops: dict[str, float]
    attention_bandwidth: dict[str, float]
    attention_flops: dict[str, float] = msgspec.field(default_factory=dict)
    eager_bandwidth: dict[str, float] = msgspec.field(default_factory=dict)
    cache_bandwidth: float = 10e9
    op_seconds: float
    native_bandwidth: dict[str, float] = msgspec.field(default_factory=dict)
    native_attention_bandwidth: dict[str, float] = msgspec.field(default_factory=dict)
    native_op_seconds: float = 0.0
    disk_bandwidth: float
    read_bandwidth: float = 1.5e9
    mapped_bandwidth: float
    cached_bandwidth: float
    copy_bandwidth: float = 2e9
    tensor_seconds: float
    quantize_bandwidth: dict[str, float]
    ram_runtime_bytes: int
    waited_share: float = 0.0
    gpus: tuple[GpuLimits, ...] = ()
    page_cache_bytes: int = 0
    learned: dict[str, tuple[float, float]] = msgspec.field(default_factory=dict)

    @property
    def was_disturbed(self) -> bool:
        """Other programs kept the cores busy while this machine was measured: it is faster than that."""
        return self.waited_share > _DISTURBED_SHARE
