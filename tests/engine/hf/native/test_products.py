"""Short chunks pass linear layers by our kernel as by torch, whatever the layers' shapes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from engine.hf.native.library import Format, Kernels, Product
from engine.hf.native.matrix import matrix_of
from engine.hf.native.products import LEAST_TOKENS, MOST_TOKENS, is_served, use_products
from tests import tiny_models
from tests.engine.hf.native.greedy import model_of, prompt
from tests.engine.hf.native.test_quantized import quantized_layer

CHUNKS = range(LEAST_TOKENS, MOST_TOKENS[Format.BFLOAT16] + 1)
SHAPES = [(32, 32), (37, 64), (1, 512), (96, 544), (300, 1056), (33, 2048)]
"""Rows and columns: whole panels and parts of them, alone and one behind the other."""


@pytest.fixture(autouse=True)
def needs_the_kernel(kernels: Kernels) -> None:
    if not kernels.multiplies_chunks:
        pytest.skip("this processor does not multiply bf16")


@pytest.fixture
def products(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of tokens that were multiplied by the kernel."""
    seen: list[int] = []
    multiply = kernels.multiply

    def noted(product: Product) -> None:
        seen.append(product.tokens)
        multiply(product)

    monkeypatch.setattr(kernels, "multiply", noted)
    return seen


def _layer(rows: int, columns: int, *, bias: bool = False) -> nn.Linear:
    torch.manual_seed(rows + columns)
    return nn.Linear(columns, rows, bias=bias).to(torch.bfloat16)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("bias", [False, True])
@torch.inference_mode()
def test_every_shape_and_number_of_tokens_is_multiplied_rightly(
    kernels: Kernels, products: list[int], shape: tuple[int, int], *, bias: bool
) -> None:
    layer = _layer(*shape, bias=bias)
    chunks = [torch.randn(tokens, shape[1], dtype=torch.bfloat16) for tokens in CHUNKS]
    exact = [_exact(layer, x) for x in chunks]
    use_products(layer, kernels)
    for x, right in zip(chunks, exact, strict=True):
        torch.testing.assert_close(layer(x).float(), right, rtol=2**-8, atol=1e-4)
    assert products == list(CHUNKS)


def _exact(layer: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    product = x.float() @ layer.weight.float().t()
    return product if layer.bias is None else product + layer.bias.float()


@torch.inference_mode()
def test_a_chunk_need_not_lie_in_one_piece(kernels: Kernels, products: list[int]) -> None:
    layer = _layer(64, 96)
    x = torch.randn(2, 96, 10, dtype=torch.bfloat16).transpose(1, 2)
    own = layer(x)
    use_products(layer, kernels)
    assert layer(x).shape == own.shape
    torch.testing.assert_close(layer(x), own, rtol=2**-7, atol=1e-3)
    assert products == [20, 20]


@torch.inference_mode()
def test_numbers_that_are_none_stay_so(kernels: Kernels) -> None:
    layer = _layer(64, 96)
    layer.weight[40, 7] = torch.nan
    use_products(layer, kernels)
    broken = layer(torch.ones(12, 96, dtype=torch.bfloat16)).isnan()
    assert broken[:, 40].all()
    assert broken.sum() == 12


@pytest.mark.parametrize("tokens", [1, CHUNKS.start - 1, CHUNKS.stop])
@torch.inference_mode()
def test_other_numbers_of_tokens_are_left_to_the_layer(
    kernels: Kernels, products: list[int], tokens: int
) -> None:
    layer = _layer(64, 96)
    x = torch.randn(tokens, 96, dtype=torch.bfloat16)
    own = layer(x)
    use_products(layer, kernels)
    assert torch.equal(layer(x), own)
    assert not products


def test_what_needs_gradients_is_left_to_the_layer(kernels: Kernels, products: list[int]) -> None:
    layer = _layer(64, 96)
    use_products(layer, kernels)
    assert layer(torch.randn(20, 96, dtype=torch.bfloat16)).requires_grad
    assert not products


@pytest.mark.parametrize(
    "layer",
    [nn.Linear(64, 64), nn.Linear(64, 64).half(), nn.Linear(40, 64).to(torch.bfloat16)],
    ids=str,
)
def test_layers_of_another_kind_are_not_served(kernels: Kernels, layer: nn.Linear) -> None:
    matrix = matrix_of(layer, kernels)
    assert matrix is not None
    assert not is_served(matrix, kernels)


@pytest.mark.parametrize("tokens", [9, 12, 13, 23, 48, 95, 96, 97, 200])
@torch.inference_mode()
def test_nf4_is_multiplied_as_bitsandbytes_does(kernels: Kernels, products: list[int], tokens: int) -> None:
    if not kernels.packs_nf4:
        pytest.skip("this processor does not compute with packed nf4")
    layer = quantized_layer("nf4", torch.bfloat16)
    x = torch.randn(1, tokens, layer.in_features, dtype=torch.bfloat16)
    own = layer(x)
    use_products(layer, kernels)
    del products[:]  # of the comparison
    torch.testing.assert_close(layer(x), own, rtol=1e-2, atol=1e-2 * float(own.float().std()))
    assert products == [tokens]


@torch.inference_mode()
def test_nf4_that_is_packed_in_another_way_is_left_alone(kernels: Kernels, products: list[int]) -> None:
    if not kernels.packs_nf4:
        pytest.skip("this processor does not compute with packed nf4")
    layer = quantized_layer("nf4", torch.bfloat16)
    forward = layer.forward
    layer.forward = lambda x: forward(x).flip(-1)  # as if rows lay in another order
    use_products(layer, kernels)
    del products[:]
    layer(torch.ones(20, layer.in_features, dtype=torch.bfloat16))
    assert not products


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@torch.inference_mode()
def test_nf4_that_computes_in_another_dtype_is_left_alone(
    kernels: Kernels, products: list[int], dtype: torch.dtype
) -> None:
    layer = quantized_layer("nf4", dtype)
    use_products(layer, kernels)
    layer(torch.ones(20, layer.in_features, dtype=torch.bfloat16))
    layer(torch.ones(20, layer.in_features, dtype=dtype))
    assert not products


@pytest.mark.parametrize("family", ["llama", "qwen2", "phi3", "gemma2"])
@torch.inference_mode()
def test_a_model_s_logits_stay_the_same(kernels: Kernels, products: list[int], family: str) -> None:
    model = model_of(tiny_models.checkpoint(family)).to(torch.bfloat16)
    ids = torch.tensor([prompt(30)])
    own = model(ids).logits
    use_products(model, kernels)
    ours = model(ids).logits
    assert products
    assert (ours - own).float().square().mean().sqrt() <= 0.02 * own.float().std()
