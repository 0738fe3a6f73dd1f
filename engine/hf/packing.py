"""Packs matrices on the CPU as bitsandbytes does, bit by bit the same and several times faster.

Its own way passes over whole matrices a dozen times, in temporaries that no cache holds and that the
kernel has to clear each time. Rows (int8) and blocks of 64 (nf4) do not depend on each other.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from engine.hf.native.library import FORMATS, NF4_BLOCK, Foreign, Kernels

ROW_BLOCK = 1 << 19
"""Elements that are packed at once as int8: their temporaries stay in the caches."""
ARRANGE = "_convert_weight_packed_for_cpu"
"""What bitsandbytes calls at a layer's first use, where the processor multiplies bf16."""
ARRANGED_ROWS = 32
"""They are arranged together, and apart from all others."""
_SAMPLE = (64, 64)


@contextmanager
def quick_packing(kernels: Kernels | None) -> Iterator[None]:
    """Let bitsandbytes pack in our way while this lasts; what it is not made for goes to its own.

    Args:
        kernels: pack nf4, where they are as exact as bitsandbytes; None leaves nf4 alone.
    """
    from bitsandbytes import functional  # an engine that never packs does not load it
    from bitsandbytes.nn import modules

    own_int8, own_4bit = functional.int8_vectorwise_quant, functional.quantize_4bit
    own_arrange = getattr(modules, ARRANGE, None)
    functional.int8_vectorwise_quant = functools.partial(_pack_int8, own_int8)
    if kernels is not None and _is_exact(kernels, own_4bit, own_arrange):
        functional.quantize_4bit = functools.partial(_pack_4bit, own_4bit, kernels)
        if own_arrange is not None:
            setattr(modules, ARRANGE, functools.partial(_arranged, own_arrange, kernels))
    try:
        yield
    finally:
        functional.int8_vectorwise_quant, functional.quantize_4bit = own_int8, own_4bit
        if own_arrange is not None:
            setattr(modules, ARRANGE, own_arrange)


def _pack_int8(
    own: Callable[..., Foreign], weights: torch.Tensor, threshold: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Return weights [rows, columns] as int8, their rows' largest magnitudes, and no outliers."""
    if threshold or weights.device.type != "cpu" or weights.dim() != 2:  # noqa: PLR2004 -- a matrix
        result: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None] = own(weights, threshold)
        return result
    packed = torch.empty(weights.shape, dtype=torch.int8)
    largest = torch.empty(weights.shape[0], dtype=torch.float32)
    step = max(1, ROW_BLOCK // max(1, weights.shape[1]))
    for start in range(0, weights.shape[0], step):
        rows = slice(start, start + step)
        packed[rows], largest[rows], _ = own(weights[rows])
    return packed, largest, None


def _pack_4bit(
    own: Callable[..., tuple[torch.Tensor, Foreign]],
    kernels: Kernels,
    weights: torch.Tensor,
    **options: Foreign,
) -> tuple[torch.Tensor, Foreign]:
    """Return weights as nf4 [bytes, 1], and what bitsandbytes unpacks them with.

    Damaged ones keep the marks that bitsandbytes leaves of them.
    """
    if not _is_served(weights, options):
        return own(weights, **options)
    from bitsandbytes.functional import QuantState, get_4bit_type

    code = get_4bit_type("nf4", device="cpu")
    packed, largest = kernels.pack_nf4(weights, (code[:-1] + code[1:]) / 2)
    if not largest.isfinite().all():
        return own(weights, **options)
    state = QuantState(
        absmax=largest,
        shape=weights.shape,
        dtype=weights.dtype,
        blocksize=NF4_BLOCK,
        code=code,
        quant_type="nf4",
    )
    return packed.unsqueeze(1), state


def _is_served(weights: torch.Tensor, options: dict[str, Foreign]) -> bool:
    """Whether the kernels pack such weights."""
    usual = (
        options.get("quant_type") == "nf4"
        and options.get("blocksize") in {None, NF4_BLOCK}
        and options.get("quant_storage", torch.uint8) == torch.uint8
        and not options.get("compress_statistics")
        and options.get("absmax") is options.get("out") is None
    )
    right = weights.device.type == "cpu" and weights.dtype in FORMATS and weights.is_contiguous()
    return usual and right and not weights.numel() % NF4_BLOCK


def _arranged(
    own: Callable[..., Foreign],
    kernels: Kernels,
    packed: torch.Tensor,
    state: Foreign,
    *options: Foreign,
) -> tuple[torch.Tensor, Foreign]:
    """Return packed nf4 as the CPU computes with it [rows, columns / 2], and its state, changed likewise.

    What changes beside the bytes is told by bitsandbytes' way with the first rows.
    """
    rows, columns = state.shape if len(state.shape) == 2 else (0, 0)  # noqa: PLR2004 -- a matrix
    whole = rows and not rows % ARRANGED_ROWS and not columns % state.blocksize
    if options or state.nested or packed.dtype != torch.uint8 or not whole or not packed.is_contiguous():
        result: tuple[torch.Tensor, Foreign] = own(packed, state, *options)
        return result
    told, scales = packed.reshape(rows, -1), state.absmax.reshape(rows, -1)
    first = copy.copy(state)
    first.shape = torch.Size((ARRANGED_ROWS, columns))
    first.absmax = scales[:ARRANGED_ROWS].reshape(-1)
    _, first = own(told[:ARRANGED_ROWS].reshape(-1, 1), first)
    changed = vars(first) | {"shape": state.shape, "original_qshape": packed.shape}
    state.__dict__.update(changed | {"absmax": scales.T.to(first.absmax.dtype).contiguous()})
    return kernels.arrange_nf4(told), state


@functools.cache
def _is_exact(
    kernels: Kernels, own_4bit: Callable[..., Foreign], own_arrange: Callable[..., Foreign] | None
) -> bool:
    """Compare the kernels with bitsandbytes on numbers of every size, a block of zeros among them."""
    weights = torch.linspace(-3, 3, _SAMPLE[0] * _SAMPLE[1]).sinh().view(_SAMPLE)
    weights[1] = 0
    for dtype in FORMATS:
        sample = weights.to(dtype)
        packed, state = own_4bit(sample, quant_type="nf4")
        ours, our_state = _pack_4bit(own_4bit, kernels, sample, quant_type="nf4")
        if not (torch.equal(packed, ours) and torch.equal(state.absmax, our_state.absmax)):
            return False
    if own_arrange is None:
        return True
    packed, state = own_4bit(weights.to(torch.bfloat16), quant_type="nf4")
    ours, our_state = _arranged(own_arrange, kernels, packed, copy.copy(state))
    arranged, state = own_arrange(packed, state)
    return torch.equal(arranged, ours) and torch.equal(state.absmax, our_state.absmax)
