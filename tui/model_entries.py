"""What the model picker lists: models on this disk with a first estimate of where they would fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import engine
from engine.errors import CheckpointError
from engine.values import Fits, ModelRef

if TYPE_CHECKING:
    from engine import LocalModel, MemoryReading

_REVISION = 12
_DEFAULT_CONTEXT_WINDOW = 8192
"""Tokens that a plan takes where nobody says how many."""
_RUNTIME_BYTES = 600 << 20
"""CUDA context, libraries and the activations of one prefill chunk; a plan counts them exactly."""


@dataclass(frozen=True, kw_only=True)
class FreeMemory:
    """What a model may take, in bytes, were the present one unloaded.

    Attributes:
        gpu_bytes: of all GPUs together; None where there is none.
        ram_bytes: of RAM, reclaimable file pages included.
    """

    gpu_bytes: int | None = None
    ram_bytes: int = 0


def free_memory(reading: MemoryReading) -> FreeMemory:
    """What is free or the engine's own."""
    gpus = [gpu.vram_total - gpu.vram_used + (gpu.own_bytes or 0) for gpu in reading.gpus if not gpu.problem]
    ram = reading.ram
    return FreeMemory(
        gpu_bytes=sum(gpus) if gpus else None,
        ram_bytes=max(0, ram.total_bytes - ram.ram_used + ram.engine_anonymous_bytes),
    )


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """One model on this disk; its texts are hostile until made safe to draw.

    Attributes:
        model: what loading it takes.
        weight_bytes: of its files.
        kv_bytes: KV cache at the default context window; 0 where unknown.
        format: how its weights are stored ("bf16", "nf4").
        context_window: the longest one it was made for, in tokens; 0 where unknown.
        last_used: seconds since the epoch; None for never.
        problem: why it cannot be loaded, one sentence; empty when it can.
        details: name and value pairs shown of the highlighted one.
    """

    model: ModelRef
    weight_bytes: int = 0
    kv_bytes: int = 0
    format: str = ""
    context_window: int = 0
    last_used: float | None = None
    problem: str = ""
    details: tuple[tuple[str, str], ...] = ()


def estimate_fit(entry: ModelEntry, free: FreeMemory) -> Fits:
    """The slowest place that its weights and KV cache would need, by sizes alone."""
    needed = entry.weight_bytes + entry.kv_bytes + _RUNTIME_BYTES
    gpu_bytes = free.gpu_bytes or 0
    if free.gpu_bytes is not None and needed <= gpu_bytes:
        return Fits.GPU
    return Fits.GPU_RAM if needed <= gpu_bytes + free.ram_bytes else Fits.DISK


def fit_word(entry: ModelEntry, free: FreeMemory) -> tuple[str, str]:
    """What the "fits" column says, and the palette's colour for it."""
    if entry.problem:
        return "no", "error"
    match estimate_fit(entry, free):
        case Fits.GPU:
            return "GPU", "success"
        case Fits.GPU_RAM if free.gpu_bytes is None:
            return "RAM", "success"
        case Fits.GPU_RAM:
            return "GPU+RAM", "warning"
        case _:
            return "disk", "warning"


def model_entries(models: Iterable[LocalModel], last_used: Mapping[str, float]) -> list[ModelEntry]:
    """What the picker lists, the ones used last first, then by name as they come.

    Args:
        models: what is on this disk.
        last_used: seconds since the epoch by a model's name.
    """
    entries = [_entry(model, last_used.get(model.ref.name)) for model in models]
    return sorted(entries, key=lambda entry: (bool(entry.problem), -(entry.last_used or 0.0)))


def _entry(model: LocalModel, last_used: float | None) -> ModelEntry:
    ref = model.ref
    source = f"{ref.hub} · {ref.repo_id} · {ref.revision[:_REVISION]}".rstrip(" ·") if ref.hub else ""
    details = (("runs as", model.architecture), ("from", source))
    return ModelEntry(
        model=ref,
        weight_bytes=model.weight_bytes,
        format=model.format,
        context_window=model.context_window,
        last_used=last_used,
        problem=model.problem,
        details=tuple(pair for pair in details if pair[1]),
    )


def measured(entry: ModelEntry) -> ModelEntry:
    """The same with its KV cache at the default context window, or with what is wrong with its headers."""
    try:
        footprint = engine.footprint_of(engine.inspect_folder(entry.model.folder))
    except CheckpointError as error:
        return replace(entry, problem=error.message)
    window = min(_DEFAULT_CONTEXT_WINDOW, entry.context_window or _DEFAULT_CONTEXT_WINDOW)
    return replace(entry, kv_bytes=footprint.kv_bytes(window))
