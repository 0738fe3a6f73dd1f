"""Packing in our way gives the bits that bitsandbytes gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from bitsandbytes import functional, nn
from bitsandbytes.nn import modules

from engine.hf.native.library import FORMATS, Kernels
from engine.hf.packing import ARRANGE, ROW_BLOCK, quick_packing

DTYPES = list(FORMATS)
SHAPES = [(96, 128), (37, 64), (ROW_BLOCK // 512 + 3, 1024)]


def _weights(shape: tuple[int, int], dtype: torch.dtype) -> torch.Tensor:
    """Numbers of every size, with a row of zeros, a tiny one, and one far from the others."""
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(3)) * 0.02
    weights[1] = 0
    weights[2] *= 1e-4
    weights[3, 5] = 40
    return weights.to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_nf4_is_packed_bit_by_bit_alike(kernels: Kernels, shape: tuple[int, int], dtype: torch.dtype) -> None:
    weights = _weights(shape, dtype)
    own, own_state = functional.quantize_4bit(weights, quant_type="nf4")
    with quick_packing(kernels):
        ours, state = functional.quantize_4bit(weights, quant_type="nf4")
    assert torch.equal(ours, own)
    assert torch.equal(state.absmax, own_state.absmax)
    assert (state.shape, state.dtype, state.blocksize) == (own_state.shape, own_state.dtype, 64)
    unpacked = functional.dequantize_4bit(ours, state)
    assert torch.equal(unpacked, functional.dequantize_4bit(own, own_state))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_int8_is_packed_bit_by_bit_alike(shape: tuple[int, int]) -> None:
    weights = _weights(shape, torch.float16)
    own = functional.int8_vectorwise_quant(weights)
    with quick_packing(None):
        ours = functional.int8_vectorwise_quant(weights)
    assert torch.equal(ours[0], own[0])
    assert torch.equal(ours[1], own[1])
    assert ours[2] is own[2] is None


def test_every_value_and_every_bound_between_two_is_packed_alike(kernels: Kernels) -> None:
    code = functional.get_4bit_type("nf4", device="cpu")
    bounds = (code[:-1] + code[1:]) / 2
    near = [torch.nextafter(bounds, torch.tensor(end)) for end in (-2.0, 2.0)]
    block = torch.cat([code, bounds, *near, torch.ones(3)])
    weights = torch.stack([block, -block, 3 * block])
    own, _ = functional.quantize_4bit(weights, quant_type="nf4")
    with quick_packing(kernels):
        assert torch.equal(functional.quantize_4bit(weights, quant_type="nf4")[0], own)


@pytest.mark.parametrize("mark", [float("nan"), float("inf")])
def test_damaged_weights_keep_the_marks_that_bitsandbytes_leaves(kernels: Kernels, mark: float) -> None:
    weights = _weights((96, 128), torch.bfloat16)
    weights[7, 7] = mark
    own, own_state = functional.quantize_4bit(weights, quant_type="nf4")
    with quick_packing(kernels):
        ours, state = functional.quantize_4bit(weights, quant_type="nf4")
    assert torch.equal(ours, own)
    assert torch.equal(state.absmax.nan_to_num(), own_state.absmax.nan_to_num())


@pytest.mark.parametrize(
    "options",
    [
        {"quant_type": "fp4"},
        {"quant_type": "nf4", "compress_statistics": True},
        {"quant_type": "nf4", "blocksize": 128},
    ],
    ids=str,
)
def test_what_it_is_not_made_for_goes_to_bitsandbytes(kernels: Kernels, options: dict[str, object]) -> None:
    weights = _weights((96, 128), torch.bfloat16)
    own, own_state = functional.quantize_4bit(weights, **options)
    with quick_packing(kernels):
        ours, state = functional.quantize_4bit(weights, **options)
    assert torch.equal(ours, own)
    assert state.nested == own_state.nested


def test_activations_with_outliers_go_to_bitsandbytes() -> None:
    tokens = _weights((4, 64), torch.float16)
    own = functional.int8_vectorwise_quant(tokens.clone(), 6.0)
    with quick_packing(None):
        ours = functional.int8_vectorwise_quant(tokens.clone(), 6.0)
    assert own[2].tolist() == ours[2].tolist() == [5]
    assert torch.equal(ours[0], own[0])


def test_bitsandbytes_is_as_it_was_afterwards_even_behind_an_error(kernels: Kernels) -> None:
    before = functional.int8_vectorwise_quant, functional.quantize_4bit
    with quick_packing(kernels):
        assert functional.quantize_4bit is not before[1]
    with pytest.raises(KeyError), quick_packing(kernels):
        raise KeyError
    assert (functional.int8_vectorwise_quant, functional.quantize_4bit) == before


@pytest.mark.parametrize("shape", [(32, 64), (96, 128), (1056, 1024), (64, 192)], ids=str)
def test_packed_weights_are_arranged_alike(kernels: Kernels, shape: tuple[int, int]) -> None:
    weights = _weights(shape, torch.bfloat16)

    def arranged() -> tuple[torch.Tensor, dict[str, Any]]:
        packed, state = functional.quantize_4bit(weights, quant_type="nf4")
        arrange = getattr(modules, ARRANGE)
        bytes_of, changed = arrange(packed, state)
        assert changed is state
        return bytes_of, vars(state)

    own, own_state = arranged()
    with quick_packing(kernels):
        assert getattr(modules, ARRANGE) is not functional._convert_weight_packed_for_cpu
        ours, state = arranged()
    assert torch.equal(ours, own)
    assert state.keys() == own_state.keys()
    for name, value in own_state.items():
        told = state[name]
        same = torch.equal(told, value) if isinstance(value, torch.Tensor) else told == value
        assert same, name
    assert state["absmax"].is_contiguous()


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_a_layer_computes_the_same(kernels: Kernels, kind: str) -> None:
    weights = _weights((96, 128), torch.bfloat16)

    def output() -> torch.Tensor:
        if kind == "int8":
            layer = nn.Linear8bitLt(128, 96, bias=False, has_fp16_weights=False, threshold=6.0)
            layer.weight = nn.Int8Params(weights.clone(), requires_grad=False, has_fp16_weights=False).to(
                "cpu"
            )
        else:
            layer = nn.Linear4bit(128, 96, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4")
            layer.weight = nn.Params4bit(
                weights.clone(),
                requires_grad=False,
                compress_statistics=False,
                quant_type="nf4",
                module=layer,
            ).to("cpu")
        result: torch.Tensor = layer.eval()(torch.linspace(-1, 1, 256).view(2, 128).to(torch.bfloat16))
        return result

    with torch.inference_mode():
        own = output()
        with quick_packing(kernels):
            assert torch.equal(output(), own)
