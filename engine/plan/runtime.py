"""What a device holds beside weights and cache: libraries, contexts, gaps, and what loading takes.

The terms of RAM, each measured on several families with `bench/plan.py`:

process: the engine with its libraries imported, measured on each machine (`MachineLimits.ram_runtime_bytes`).
classes: the model's own modules of transformers, its tokenizer, and the loader, imported by the first load.
gaps: freed memory that the heap has not given back, no more than GROWTH_BYTES between two trims.
packing: while bitsandbytes packs one matrix, its float copies; what was packed before is held already, and
    weights that stay mapped are not touched yet.
stacking: while one layer's experts become one tensor, a second copy of some of them.
"""

from __future__ import annotations

from collections.abc import Iterable

from engine.checkpoint.attention import EAGER_FAMILIES
from engine.heap import GROWTH_BYTES
from engine.plan.footprint import Footprint
from engine.plan.module import Module
from engine.values import GpuLimits, MachineLimits, Quantization

GPU_RUNTIME_BYTES = 700 << 20
"""CUDA context, kernels and library workspaces of one GPU, until it is calibrated."""
RAM_RUNTIME_BYTES = 512 << 20
"""The engine process with its libraries, a model's classes and gaps, without CUDA, until it is measured."""
CUDA_RAM_BYTES = 1 << 30
"""What CUDA's libraries add to the process in RAM."""
CLASS_BYTES = 100 << 20
PACKING_BYTES = {Quantization.INT8: 12, Quantization.NF4: 16}
"""Per element of the matrix that is being packed: float32 copies of it, codes, and the result."""
UNPACKED_OUTPUT_BYTES = {Quantization.INT8: 16}
"""Per token of the chunk and output of the widest layer: sums in int32, scaled in float32, rounded."""
OUTLIER_BYTES = {Quantization.INT8: 11}
"""Per element of the widest matrix: inputs beyond a threshold meet columns that are unpacked for them."""
MAPPED_WHILE_LOADING_BYTES = 32 << 20
"""Pages of the checkpoint that are copied already and not yet let go."""
CHUNK_ACTIVATION_BYTES = 160 << 20
"""Prefill chunks on the CPU shrink until they hold no more: they compute no slower, and plans are exact."""
CHUNKS = (512, 256, 128, 64)
CHUNK_GAP_SHARE = 0.25
"""Of a chunk's activations of 16 bit: what its temporaries and reordered copies leave in the heap."""
VARIED_KERNEL_BYTES = 64 << 20
"""Of 128 kernels, one for each length of the cache or number of tokens that an expert is given."""
CACHE_GAP_SHARE = 0.4
"""Of the KV cache: each token's copy is larger than the block it leaves, which only smaller ones can take."""
MOST_CACHE_GAP_BYTES = 128 << 20
_HALF = 2


def ram_runtime_bytes(*, has_gpus: bool, limits: MachineLimits) -> int:
    """Bytes of the engine process in RAM before any weight; of a machine never measured, a usual figure.

    Args:
        has_gpus: the plan uses one, so that CUDA is initialised.
        limits: of the machine.
    """
    cuda = CUDA_RAM_BYTES if has_gpus else 0
    if not limits.measured_at:
        return RAM_RUNTIME_BYTES + cuda
    return limits.ram_runtime_bytes + CLASS_BYTES + GROWTH_BYTES + cuda


def gpu_runtime_bytes(gpu: GpuLimits | None) -> int:
    """Bytes of one GPU before any weight; of one never measured, a usual figure."""
    return gpu.context_bytes if gpu is not None and gpu.is_measured else GPU_RUNTIME_BYTES


def cpu_chunk(footprint: Footprint, context_window: int) -> int:
    """Tokens of a prompt that the CPU computes at once, so that they hold CHUNK_ACTIVATION_BYTES at most."""
    sizes = ((chunk, footprint.activation_bytes(context_window, chunk_tokens=chunk)) for chunk in CHUNKS)
    return next((chunk for chunk, size in sizes if size <= CHUNK_ACTIVATION_BYTES), CHUNKS[-1])


def packed_activation_bytes(footprint: Footprint, chunk_tokens: int) -> int:
    """What packed layers hold beside plain ones in a chunk: int8 sums, scaled step by step, and outliers."""
    per_output = UNPACKED_OUTPUT_BYTES.get(footprint.quantization, 0)
    widest = max(footprint.config.intermediate_size, footprint.config.hidden_size)
    outliers = OUTLIER_BYTES.get(footprint.quantization, 0) * widest * footprint.config.hidden_size
    return per_output * chunk_tokens * widest + outliers


def chunk_gap_bytes(footprint: Footprint, activation_bytes: int) -> int:
    """What the heap holds beside the temporaries of one chunk of prefill that the CPU computes in 16 bit.

    So do layers that are packed as int8, whatever the others do.
    """
    if footprint.itemsize != _HALF and footprint.quantization is not Quantization.INT8:
        return 0
    return int(CHUNK_GAP_SHARE * min(activation_bytes, CHUNK_ACTIVATION_BYTES))


def kernel_bytes(footprint: Footprint) -> int:
    """What oneDNN keeps of kernels for products of 16 bit, where each takes another number of tokens."""
    config = footprint.config
    is_varied = config.model_type in EAGER_FAMILIES or config.active_experts > 0
    return VARIED_KERNEL_BYTES if is_varied and footprint.itemsize == _HALF else 0


def cache_gap_bytes(kv_bytes: int) -> int:
    """What the heap holds between the blocks of a cache in RAM that grows with every token."""
    return min(int(CACHE_GAP_SHARE * kv_bytes), MOST_CACHE_GAP_BYTES)


def loading_bytes(modules: Iterable[Module], quantization: Quantization) -> int:
    """The most bytes held while modules are loaded into RAM, beside the process.

    Args:
        modules: that come to rest in RAM.
        quantization: that is applied; `none` packs nothing.
    """
    copied = transient = 0
    for module in modules:
        is_packed = quantization is not Quantization.NONE and module.widest_elements > 0
        copied += module.bytes if is_packed else module.rewritten_bytes
        converting = PACKING_BYTES.get(quantization, 0) * module.widest_elements
        transient = max(transient, converting, module.rewritten_bytes)
    return copied + transient + (MAPPED_WHILE_LOADING_BYTES if copied else 0)
