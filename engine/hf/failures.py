"""Exceptions of torch, CUDA, safetensors and the operating system, as the engine's own errors."""

from __future__ import annotations

import errno

import torch
from safetensors import SafetensorError

from engine.errors import DamagedCheckpoint, EngineError, EngineFault, OutOfMemory
from engine.hf.ledger import cuda_is_used, process_memory

FAILURES = (
    RuntimeError,
    MemoryError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    ImportError,
    SafetensorError,
)
"""What the libraries raise when a model cannot be loaded or run."""

RAM_SIGNS = ("can't allocate memory", "not enough memory", "cannot allocate memory")
CUDA_SIGNS = ("CUDA error", "CUBLAS_STATUS", "CUDNN_STATUS", "device-side assert")
DAMAGE_SIGNS = ("size mismatch", "ignore_mismatched_sizes", "incomplete metadata", "HeaderTooLarge")

REMEDIES = "Use a shorter context (/context 2048), nf4 (/load nf4), or let more layers go to RAM (--gpu)."
NEW_PROCESS = "Give /unload, which ends the engine's process, and load the model again."
GIB = 1 << 30


def named(error: BaseException, doing: str) -> EngineError:
    """Return the engine's own error for what a library raised.

    Args:
        error: what was caught; an EngineError comes back as it is.
        doing: "loading the model", for the sentence.
    """
    if isinstance(error, EngineError):
        return error
    if (memory := _out_of_memory(error, doing)) is not None:
        return memory
    text = str(error)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return EngineFault(f"The disk is full: {doing} could not write.", "Free some space, or give --disk.")
    if isinstance(error, SafetensorError) or any(sign in text for sign in DAMAGE_SIGNS):
        return DamagedCheckpoint(
            f"The weights cannot be read: {_first_line(text)}.", "Download the model again."
        )
    if any(sign in text for sign in CUDA_SIGNS):
        return EngineFault(f"The GPU failed while {doing}: {_first_line(text)}.", NEW_PROCESS)
    return EngineFault(
        f"{doing.capitalize()} failed: {type(error).__name__}: {_first_line(text)}.",
        "The engine's log has the details.",
    )


def _out_of_memory(error: BaseException, doing: str) -> OutOfMemory | None:
    text = str(error)
    if isinstance(error, torch.OutOfMemoryError):
        return OutOfMemory(f"A GPU ran out of memory while {doing}: {_gpu_figures()}.", REMEDIES)
    if isinstance(error, MemoryError) or any(sign in text.lower() for sign in RAM_SIGNS):
        return OutOfMemory(f"RAM ran out while {doing}: {_ram_figures()}.", REMEDIES)
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return OutOfMemory(f"RAM ran out while {doing}: {_ram_figures()}.", REMEDIES)
    return None


def _gpu_figures() -> str:
    """Say how much torch holds on each GPU; without CUDA there is nothing to say."""
    if not cuda_is_used():
        return "no figures from the driver"
    figures = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        held = torch.cuda.memory_allocated(index)
        left = f"{free / GIB:.1f} of {total / GIB:.1f} GiB are free"
        figures.append(f"GPU {index} holds {held / GIB:.1f} GiB of ours, {left}")
    return "; ".join(figures)


def _ram_figures() -> str:
    own = process_memory()
    return f"the engine holds {own.resident / GIB:.1f} GiB"


def _first_line(text: str) -> str:
    lines = text.strip().splitlines() or ["no message"]
    return lines[0].rstrip(".")[:300]
