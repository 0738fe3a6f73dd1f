"""Chunks of new tokens attend by our kernel as by torch, whatever the heads and the mask look like."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from torch import nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from engine.hf.decode import Runner
from engine.hf.native.chunks import ChunkAttention
from engine.hf.native.library import Chunk, Kernels
from engine.hf.native.linears import use_attention
from engine.hf.native.trial import Trial
from tests import tiny_models
from tests.engine.hf.native.greedy import generated, model_of, prompt, replied, sample_of

CPU = torch.device("cpu")
WRITTEN_OUT = {"gemma2", "gptj", "codegen", "bloom"}
"""Families that transformers computes without sdpa."""
UNIT = {torch.float32: 2**-20, torch.float16: 2**-10, torch.bfloat16: 2**-7}
"""Twice what rounding one result to a dtype may cost, or its sum's order in float32."""


class Shape(NamedTuple):
    """Heads, and how many tokens attend to how many."""

    heads: int = 4
    kv_heads: int = 2
    width: int = 16
    value_width: int = 16
    tokens: int = 9
    seen: int = 200

    def drawn(self, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
        """Queries as a projection leaves them; keys and values in rooms with gaps between heads."""
        torch.manual_seed(3)
        query = torch.randn(1, self.tokens, self.heads, self.width, dtype=dtype).transpose(1, 2)
        room = self.seen + 37
        key = torch.randn(1, self.kv_heads, room, self.width, dtype=dtype)[:, :, 5 : 5 + self.seen]
        value = torch.randn(1, self.kv_heads, room, self.value_width, dtype=dtype)[:, :, 5 : 5 + self.seen]
        return 2 * query, key, value

    def causal(self) -> torch.Tensor:
        mask = torch.ones(1, 1, self.tokens, self.seen, dtype=torch.bool)
        return mask.tril(self.seen - self.tokens)


class Attending(nn.Module):
    """What sdpa asks of a layer."""

    is_causal = True

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.num_key_value_groups = shape.heads // shape.kv_heads


@pytest.fixture
def served(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens the kernel was given, call by call."""
    monkeypatch.setattr(kernels, "attends_to_chunks", True)
    held: list[int] = []
    attend = Kernels.attend

    def counted(found: Kernels, chunk: Chunk) -> None:
        held.append(chunk.tokens)
        attend(found, chunk)

    monkeypatch.setattr(Kernels, "attend", counted)
    return held


def both(
    kernels: Kernels,
    shape: Shape,
    mask: torch.Tensor | None,
    dtype: torch.dtype = torch.float32,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention by our kernel, or by what takes its place, and by transformers in double precision."""
    query, key, value = shape.drawn(dtype)
    with torch.inference_mode():
        ours, _ = ChunkAttention(kernels)(Attending(shape), query, key, value, mask, **kwargs)
        exact = (tensor.double() for tensor in (query, key, value))
        if mask is not None and mask.is_floating_point():
            mask = mask.double()
        own, _ = sdpa_attention_forward(Attending(shape), *exact, mask, **kwargs)
    return ours.double(), own


def assert_alike(ours: torch.Tensor, own: torch.Tensor, dtype: torch.dtype = torch.float32) -> None:
    assert ours.shape == own.shape
    assert float((ours - own).abs().max()) <= 2 * UNIT[dtype] * float(own.abs().max())


@pytest.mark.parametrize("dtype", UNIT)
@pytest.mark.parametrize(
    "shape",
    [
        Shape(),
        Shape(heads=32, kv_heads=8, width=64, value_width=64, tokens=23, seen=1023),
        Shape(heads=3, kv_heads=3, tokens=40),
        Shape(heads=7, kv_heads=1, tokens=70),
        Shape(heads=12, kv_heads=4, width=21, value_width=13),
        Shape(heads=2, kv_heads=1, width=256, value_width=72, tokens=5, seen=65),
        Shape(tokens=2, seen=3),
        Shape(tokens=130, seen=131),
    ],
    ids=str,
)
def test_every_shape_of_heads_attends_as_by_torch(
    shape: Shape, dtype: torch.dtype, kernels: Kernels, served: list[int]
) -> None:
    assert_alike(*both(kernels, shape, shape.causal(), dtype), dtype)
    assert served == [shape.tokens]


def test_what_a_model_scales_by_counts(kernels: Kernels, served: list[int]) -> None:
    shape = Shape()
    assert_alike(*both(kernels, shape, shape.causal(), scaling=0.7))
    assert served


@pytest.mark.parametrize("window", [1, 30, 64, 190])
def test_a_window_hides_what_lies_before_it(window: int, kernels: Kernels, served: list[int]) -> None:
    shape = Shape(tokens=80, seen=300)
    mask = shape.causal() & ~shape.causal().tril(shape.seen - shape.tokens - window)
    assert_alike(*both(kernels, shape, mask))
    assert served


def test_any_flags_at_all_are_kept_to_and_a_token_that_sees_nothing_is_zero(
    kernels: Kernels, served: list[int]
) -> None:
    shape = Shape(tokens=20, seen=150)
    mask = torch.rand(1, 1, 20, 150, generator=torch.Generator().manual_seed(2)) < 0.3
    mask[:, :, 4] = False
    ours, own = both(kernels, shape, mask)
    assert_alike(ours, own)
    assert not ours[:, 4].any()
    assert served


def test_large_scores_neither_overflow_nor_drown_what_is_seen_last(kernels: Kernels) -> None:
    shape = Shape(seen=500)
    query, key, value = shape.drawn(torch.float32)
    key[:, :, 400:] *= 40
    with torch.inference_mode():
        ours, _ = ChunkAttention(kernels)(Attending(shape), query, key, value, shape.causal(), scaling=1.0)
        own, _ = sdpa_attention_forward(Attending(shape), query, key, value, shape.causal(), scaling=1.0)
    assert torch.isfinite(ours).all()
    assert float((ours - own).abs().max()) <= 1e-4


@pytest.mark.parametrize(
    ("mask", "kwargs"),
    [
        pytest.param(None, {}, id="no mask"),
        pytest.param(torch.zeros(1, 1, 9, 200), {}, id="numbers to add"),
        pytest.param(Shape().causal().expand(1, 4, 9, 200), {}, id="a mask for each head"),
        pytest.param(Shape().causal(), {"position_bias": torch.rand(1, 4, 9, 200).double()}, id="biases"),
    ],
)
def test_what_the_kernel_is_not_made_for_goes_to_torch(
    mask: torch.Tensor | None, kwargs: dict[str, Any], kernels: Kernels, served: list[int]
) -> None:
    dtype = torch.float64 if kwargs else torch.float32
    assert_alike(*both(kernels, Shape(), mask, dtype=dtype, **kwargs))
    assert not served


def test_gradients_and_several_conversations_go_to_torch(kernels: Kernels, served: list[int]) -> None:
    shape = Shape()
    query, key, value = shape.drawn(torch.float32)
    attend, layer, mask = ChunkAttention(kernels), Attending(shape), shape.causal()
    assert attend(layer, query.requires_grad_(), key, value, mask)[0].requires_grad
    with torch.inference_mode():
        query, key, value = (tensor.repeat(2, 1, 1, 1) for tensor in (query, key, value))
        assert attend(layer, query, key, value, mask)[0].shape[0] == 2
    assert not served


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_a_second_turn_says_what_generate_says(family: str, kernels: Kernels, served: list[int]) -> None:
    model = model_of(tiny_models.checkpoint(family))
    first, second = prompt(70), prompt(33, seed=2)
    expected = generated(model, first + second)
    assert use_attention(model, ChunkAttention(kernels)) == (family not in WRITTEN_OUT)
    runner = Runner(model, CPU)
    runner.feed(first)
    served.clear()
    assert replied(runner, second) == expected
    assert set(served) == (set() if family in WRITTEN_OUT else {len(second)})


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt2", "falcon_h1"])
def test_a_model_that_was_tried_attends_by_the_kernel(
    family: str, kernels: Kernels, served: list[int]
) -> None:
    model = model_of(tiny_models.checkpoint(family))
    runner = Runner(model, CPU)
    runner.decoder = Trial(model, kernels)(sample_of(runner), runner._sampled)
    runner.kv.drop()
    runner.feed(prompt(40))
    served.clear()
    runner.feed(prompt(20, seed=5))
    assert served
    assert set(served) == {20}


def test_where_the_kernel_is_slower_torch_attends(
    kernels: Kernels, served: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "attends_to_chunks", False)
    assert_alike(*both(kernels, Shape(), Shape().causal()))
    assert not served
