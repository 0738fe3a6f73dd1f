"""int8 and nf4 layers beside bitsandbytes' own, and whole models of them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.hf.native.library import FORMATS, Kernels
from engine.hf.native.linears import NativeLinear
from engine.hf.native.matrix import matrix_of
from engine.values import Quantization
from tests import tiny_models
from tests.engine.hf.native.greedy import prompt
from tests.engine.hf.talk import Talk, quantized

ROWS, COLUMNS = 96, 320
KINDS = ("int8", "nf4", "nf4 nested")


def quantized_layer(kind: str, dtype: torch.dtype) -> Any:
    import bitsandbytes

    logging.getLogger("bitsandbytes.autograd").setLevel(logging.ERROR)
    torch.manual_seed(3)
    plain = torch.nn.Linear(COLUMNS, ROWS).to(dtype)
    layer: Any
    if kind == "int8":
        layer = bitsandbytes.nn.Linear8bitLt(COLUMNS, ROWS, has_fp16_weights=False, threshold=6.0)
        layer.weight = bitsandbytes.nn.Int8Params(
            plain.weight.data, requires_grad=False, has_fp16_weights=False
        )
    else:
        layer = bitsandbytes.nn.Linear4bit(COLUMNS, ROWS, compute_dtype=dtype, quant_type="nf4")
        layer.weight = bitsandbytes.nn.Params4bit(
            plain.weight.data, requires_grad=False, quant_type="nf4", compress_statistics="nested" in kind
        )
    layer.bias = plain.bias
    return layer.to("cpu").eval()


@pytest.mark.parametrize("scale", [1, 4], ids=["without outliers", "with outliers"])
@pytest.mark.parametrize("tokens", [1, 3, 8])
@pytest.mark.parametrize("dtype", FORMATS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_a_layer_computes_what_bitsandbytes_computes_but_for_the_order_of_sums(
    kind: str, dtype: torch.dtype, tokens: int, scale: int, kernels: Kernels
) -> None:
    layer = quantized_layer(kind, dtype)
    x = scale * torch.randn(1, tokens, COLUMNS, generator=torch.Generator().manual_seed(5)).to(dtype)
    assert bool((x.abs() >= 6).any()) == (scale == 4)
    own = layer(x.clone())
    matrix = matrix_of(layer, kernels)
    assert matrix is not None
    ours = NativeLinear(layer, matrix, kernels)(x)
    # One step of the dtype that the result is rounded to; without rounding, the last bits of sums.
    rounding = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 1e-2}[dtype]
    assert ours.dtype == own.dtype
    assert torch.allclose(ours.float(), own.float(), rtol=rounding, atol=rounding * float(own.float().std()))


def test_a_matrix_that_is_not_ours_is_left_alone(kernels: Kernels) -> None:
    assert matrix_of(torch.nn.Embedding(3, 4), kernels) is None
    assert matrix_of(torch.nn.Linear(4, 4, dtype=torch.float64), kernels) is None
    assert matrix_of(torch.nn.Linear(4, 4, device="meta"), kernels) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", [Quantization.NF4, Quantization.INT8])
def test_a_quantized_model_takes_whole_steps_and_says_what_the_library_says(
    kind: Quantization, dtype: torch.dtype, kernels: Kernels, tmp_path: Path
) -> None:
    sizes: Any = {"hidden_size": 64, "intermediate_size": 256, "num_key_value_heads": 4, "head_dim": 16}
    folder = tiny_models.make("llama", tmp_path, dtype=dtype, **sizes)
    talk = Talk(folder, quantized(kind))
    runner = talk.inner.runner
    assert runner.decoder is not None
    prompt_ids = prompt(40)
    ours = runner.feed(prompt_ids), [runner.feed([token]) for token in prompt(20, 2)]
    runner.decoder = None
    runner.kv.drop()
    own = runner.feed(prompt_ids), [runner.feed([token]) for token in prompt(20, 2)]
    assert torch.equal(ours[0], own[0])
    # Inputs of each layer are rounded to bf16 or int8: a last bit that differs may become one of those.
    for mine, theirs in zip(ours[1], own[1], strict=True):
        assert float((mine.float() - theirs.float()).square().mean().sqrt() / theirs.float().std()) < 0.1
    talk.backend.unload()
