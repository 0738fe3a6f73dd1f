"""bfloat16 in twelve bits: every bit comes back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.hf import planes
from engine.hf.keeper import Entry, Stopped, whole
from engine.hf.planes import APART, CODES, LOW, narrowed, widened

NAME = "embed.weight"


@pytest.fixture(autouse=True)
def small_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small ones are narrowed, too, in several blocks."""
    monkeypatch.setattr(planes, "LEAST_NUMBERS", 0)
    monkeypatch.setattr(planes, "BLOCK", 1 << 10)


def entry(tensor: torch.Tensor, dtype: str = "BF16") -> Entry:
    content = tensor.contiguous().view(-1).view(torch.uint8).numpy().data
    return whole(NAME, dtype, tuple(tensor.shape), content)


def nothing(*_: object) -> None:
    return


def read(part: Entry) -> torch.Tensor:
    content = bytearray(b"".join(part.blocks()))
    assert len(content) == part.bytes
    dtype = {"U8": torch.uint8, "I64": torch.int64}[part.dtype]
    return torch.frombuffer(content, dtype=dtype).view(part.shape)


def again(parts: tuple[Entry, ...]) -> torch.Tensor:
    low, codes, apart = map(read, parts)
    return widened(low, codes, apart, nothing)


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.view(torch.int16)


def weights(rows: int = 100, columns: int = 64, scale: float = 0.02) -> torch.Tensor:
    return (scale * torch.randn(rows, columns, generator=torch.Generator().manual_seed(1))).bfloat16()


@pytest.mark.parametrize("shape", [(100, 64), (1, 4), (7, 146), (2, 1024), (3, 5, 20)])
def test_every_bit_comes_back(shape: tuple[int, ...]) -> None:
    tensor = weights(1, 7000).view(-1)[: torch.Size(shape).numel()].view(shape)
    parts = narrowed(entry(tensor), nothing)
    assert [part.name for part in parts] == [NAME + LOW, NAME + CODES, NAME + APART]
    assert torch.equal(bits(again(parts)), bits(tensor))


def test_it_takes_twelve_bits_a_number() -> None:
    tensor = weights(1000, 64)
    parts = narrowed(entry(tensor), nothing)
    assert sum(part.bytes for part in parts) < 1.51 * tensor.numel()


@given(
    st.floats(-30, 30),
    st.lists(st.tuples(st.integers(0, 6399), st.integers(-(2**15), 2**15 - 1)), max_size=90),
)
def test_what_no_other_number_is_like_comes_back(power: float, strange: list[tuple[int, int]]) -> None:
    tensor = weights(scale=2.0**power)
    for position, pattern in strange:
        bits(tensor).view(-1)[position] = pattern
    parts = narrowed(entry(tensor), nothing)
    assert len(parts) == 3
    assert torch.equal(bits(again(parts)), bits(tensor))


def test_zeros_and_what_is_no_number_come_back() -> None:
    tensor = weights()
    tensor[3, :40] = 0
    tensor[5, :6] = torch.tensor([torch.nan, torch.inf, -torch.inf, -0.0, 1e-40, -3e38]).bfloat16()
    parts = narrowed(entry(tensor), nothing)
    assert torch.equal(bits(again(parts)), bits(tensor))


def test_a_tensor_of_zeros_alone_comes_back() -> None:
    tensor = torch.zeros(10, 64, dtype=torch.bfloat16)
    assert torch.equal(bits(again(narrowed(entry(tensor), nothing))), bits(tensor))


def test_numbers_of_every_size_are_left_as_they_are() -> None:
    every = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    said = entry(every)
    assert narrowed(said, nothing) == (said,)


@pytest.mark.parametrize("tensor", [weights().float(), weights().half(), weights(1, 63), torch.ones(0)])
def test_what_it_is_not_made_for_is_left_as_it_is(tensor: torch.Tensor) -> None:
    names = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
    said = entry(tensor, names[tensor.dtype])
    assert narrowed(said, nothing) == (said,)


def test_a_small_tensor_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planes, "LEAST_NUMBERS", 6401)
    said = entry(weights())
    assert narrowed(said, nothing) == (said,)


def test_it_can_be_stopped_on_both_ways() -> None:
    def stop(*_: object) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        narrowed(entry(weights()), stop)
    low, codes, apart = map(read, narrowed(entry(weights()), nothing))
    with pytest.raises(Stopped):
        widened(low, codes, apart, stop)
