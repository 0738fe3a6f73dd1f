"""Find a linear layer's weights, whatever library made them."""

from __future__ import annotations

import torch
from transformers.pytorch_utils import Conv1D

from engine.hf.native.library import FORMATS, Foreign, Format, Kernels
from engine.hf.native.program import Matrix


def matrix_of(module: Foreign, kernels: Kernels) -> Matrix | None:
    """Return the weights of a linear layer, or None where our kernels do not know their storage.

    bitsandbytes' layers are brought into the form that they compute with, which frees what they were
    loaded as; a Conv1D's weights are laid out by rows, in place.
    """
    if isinstance(module, Conv1D):
        return _of_conv(module)
    known = {"Linear": _of_linear, "Linear4bit": _of_nf4, "Linear8bitLt": _of_int8}
    find = known.get(type(module).__name__)
    matrix = None if find is None or not _on_cpu(module) else find(module)
    if matrix is not None and matrix.format == Format.NF4_PACKED and not kernels.packs_nf4:
        return None
    return matrix


def has_quantized(model: Foreign) -> bool:
    """Whether some layers round what they are given, whatever the model's dtype."""
    return any(type(module).__name__ in {"Linear4bit", "Linear8bitLt"} for module in model.modules())


def _on_cpu(module: Foreign) -> bool:
    return all(parameter.device.type == "cpu" for parameter in module.parameters())


def _of_linear(module: Foreign) -> Matrix | None:
    weight = module.weight.detach()
    if weight.dtype not in FORMATS or not weight.is_contiguous():
        return None
    return Matrix(FORMATS[weight.dtype], weight.shape[0], weight.shape[1], weight, bias=_bias(module))


def _of_conv(module: Foreign) -> Matrix | None:
    if module.weight.dtype not in FORMATS or not _on_cpu(module):
        return None
    by_rows = module.weight.detach().t()
    if not by_rows.is_contiguous():
        if not module.weight.is_contiguous():
            return None
        by_rows = _laid_by_rows(by_rows)
        module.weight.data = by_rows.t()
    return Matrix(FORMATS[by_rows.dtype], by_rows.shape[0], by_rows.shape[1], by_rows, bias=_bias(module))


def _laid_by_rows(by_columns: torch.Tensor) -> torch.Tensor:
    """Lay a matrix out by rows in the memory where it lies; of a mapped file, this process's copy changes."""
    by_rows = by_columns.t().view(by_columns.shape)
    by_rows.copy_(by_columns.contiguous())
    return by_rows


def _of_nf4(module: Foreign) -> Matrix | None:
    """Bitsandbytes packs at the first forward where the processor has AVX512-BF16; make it do so now."""
    state = module.weight.quant_state
    if state is None or state.quant_type != "nf4" or state.shape[-1] % state.blocksize:
        return None
    rows, columns = state.shape
    if module.support_avx512bf16_for_cpu:
        if rows % 32:
            return None
        if not getattr(state, "packing_format_for_cpu", False):
            module(torch.zeros(1, columns, dtype=torch.bfloat16))
        state = module.weight.quant_state
        return Matrix(
            Format.NF4_PACKED, rows, columns, module.weight.data, state.absmax, _bias(module), state.blocksize
        )
    return Matrix(
        Format.NF4, rows, columns, module.weight.data, _scales(state), _bias(module), state.blocksize
    )


def _scales(state: Foreign) -> torch.Tensor:
    from bitsandbytes.functional import dequantize_blockwise

    if not state.nested:
        absmax: torch.Tensor = state.absmax
    else:
        absmax = dequantize_blockwise(state.absmax, state.state2) + state.offset
    return absmax.float()


def _of_int8(module: Foreign) -> Matrix | None:
    if module.state.has_fp16_weights:
        return None
    if module.weight.CB is not None:
        module.init_8bit_state()
    weight, scales = module.state.CB, module.state.SCB
    if weight is None or weight.dtype != torch.int8 or not weight.is_contiguous():
        return None
    return Matrix(Format.INT8, weight.shape[0], weight.shape[1], weight, scales.float(), _bias(module))


def _bias(module: Foreign) -> torch.Tensor | None:
    return None if module.bias is None else module.bias.detach()
