"""Where the kernels find weights, and what they do to them."""

from __future__ import annotations

import pytest
import torch
from transformers.pytorch_utils import Conv1D

from engine.hf.native.library import Kernels
from engine.hf.native.linears import NativeLinear
from engine.hf.native.matrix import matrix_of
from tests import tiny_models
from tests.engine.hf.talk import Talk


@torch.inference_mode()
def test_a_conv_is_laid_out_by_rows_where_it_lies_and_computes_as_before(kernels: Kernels) -> None:
    layer = Conv1D(24, 40)
    x = torch.randn(1, 2, 40, generator=torch.Generator().manual_seed(1))
    expected, place = layer(x), layer.weight.data_ptr()
    for _ in range(2):
        matrix = matrix_of(layer, kernels)
        assert matrix is not None
        assert (matrix.rows, matrix.columns) == (24, 40)
        assert matrix.weights.data_ptr() == layer.weight.data_ptr() == place
        assert torch.allclose(layer(x), expected, atol=1e-6)
        assert torch.allclose(NativeLinear(layer, matrix, kernels)(x), expected, atol=1e-6)


@torch.inference_mode()
def test_a_conv_whose_weights_are_strewn_is_left_alone(kernels: Kernels) -> None:
    layer = Conv1D(24, 40)
    layer.weight.data = torch.zeros(40, 48)[:, ::2]
    assert matrix_of(layer, kernels) is None


@torch.inference_mode()
def test_more_tokens_than_a_step_takes_go_to_the_layer_itself(kernels: Kernels) -> None:
    layer = torch.nn.Linear(8, 4)
    matrix = matrix_of(layer, kernels)
    assert matrix is not None
    x = torch.randn(9, 8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(NativeLinear(layer, matrix, kernels)(x), layer(x))


@pytest.mark.parametrize("family", ["llama", "qwen3_next"])
def test_without_kernels_query_heads_that_share_keys_attend_as_one(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VRAMBLE_KERNELS", "off")
    talk = Talk(tiny_models.checkpoint(family))
    assert talk.inner.runner._model.config._attn_implementation == "vramble"
    assert talk.inner.runner.decoder is None
    talk.backend.unload()
