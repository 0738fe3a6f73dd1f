"""Cache layers that append in place, beside those of transformers that copy themselves."""

from __future__ import annotations

import random

import pytest
import torch
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from engine.hf.growing import SPARE_TOKENS, STEP_TOKENS, GrowingLayer, GrowingWindowLayer

HEADS, WIDTH, VALUE_WIDTH = 2, 4, 6
WINDOW = 40
PAIRS = [
    (GrowingLayer, DynamicLayer),
    (lambda: GrowingWindowLayer(WINDOW), lambda: DynamicSlidingWindowLayer(WINDOW)),
]
pairs = pytest.mark.parametrize(("grown", "copied"), PAIRS, ids=["whole", "window"])


def states(tokens: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = (torch.rand(1, HEADS, tokens, width, generator=generator) for width in (WIDTH, VALUE_WIDTH))
    keys, values = made
    return keys, values


def both(ours: GrowingLayer, own: DynamicLayer, tokens: int, seed: int) -> None:
    """Append the same to both, and compare what the new tokens see."""
    assert ours.get_mask_sizes(tokens) == own.get_mask_sizes(tokens)
    for mine, theirs in zip(
        ours.update(*states(tokens, seed)), own.update(*states(tokens, seed)), strict=True
    ):
        assert torch.equal(mine, theirs)
    assert ours.get_seq_length() == own.get_seq_length()


@pairs
@pytest.mark.parametrize("seed", range(5))
def test_new_tokens_see_what_they_see_in_a_layer_that_copies_itself(
    grown: type[GrowingLayer], copied: type[DynamicLayer], seed: int
) -> None:
    ours, own = grown(), copied()
    chosen = random.Random(seed)
    for step in range(60):
        both(ours, own, chosen.choice([1, 1, 1, 2, 7, 30, 130, 300]), 1000 * seed + step)


@pairs
def test_a_cropped_layer_goes_on_from_what_is_left(
    grown: type[GrowingLayer], copied: type[DynamicLayer]
) -> None:
    ours, own = grown(), copied()
    both(ours, own, WINDOW - 5, 1)
    for layer in (ours, own):
        layer.crop(-10)
    for step in range(WINDOW):
        both(ours, own, 1, 2 + step)


@pairs
@pytest.mark.parametrize("tokens", [0, 3, WINDOW - 1, WINDOW, 5 * WINDOW])
def test_a_restored_layer_goes_on_as_if_nothing_had_followed(
    grown: type[GrowingLayer], copied: type[DynamicLayer], tokens: int
) -> None:
    ours, own = grown(), copied()
    if tokens:
        both(ours, own, tokens, 1)
    saved = ours.saved()
    for seed in (2, 3):
        ours.update(*states(SPARE_TOKENS + 2, seed))
        ours.restore(saved)
    for step in range(3):
        both(ours, own, 1, 4 + step)


def test_a_filled_window_cannot_be_cropped() -> None:
    layer = GrowingWindowLayer(WINDOW)
    layer.update(*states(WINDOW, 1))
    with pytest.raises(RuntimeError, match="filled"):
        layer.crop(-1)
    with pytest.raises(ValueError, match="negative"):
        GrowingLayer().crop(3)


def room(layer: GrowingLayer) -> int:
    """Tokens that the layer's memory has room for."""
    assert layer.keys is not None
    return layer.keys.untyped_storage().nbytes() // (layer.keys.element_size() * HEADS * WIDTH)


def test_room_is_made_in_steps_and_never_beyond_what_was_foreseen() -> None:
    layer, foreseen = GrowingLayer(), GrowingLayer(most_tokens=STEP_TOKENS + 50)
    homes = set()
    for step in range(STEP_TOKENS + 50):
        layer.update(*states(1, step))
        foreseen.update(*states(1, step))
        assert layer.keys is not None
        homes.add(layer.keys.data_ptr())
        assert room(layer) - layer.get_seq_length() <= STEP_TOKENS + SPARE_TOKENS
        assert room(foreseen) <= STEP_TOKENS + 50
    assert len(homes) <= 2


def test_a_window_takes_little_more_than_itself_however_much_passes_through_it() -> None:
    layer = GrowingWindowLayer(WINDOW)
    for step, tokens in enumerate([1, 500, 1, 1, 200, *[1] * 400]):
        layer.update(*states(tokens, step))
        assert room(layer) <= WINDOW + SPARE_TOKENS


def test_a_layer_that_was_reset_is_empty() -> None:
    layer = GrowingLayer()
    layer.update(*states(9, 1))
    layer.reset()
    assert layer.keys is None
    assert layer.get_seq_length() == 0
    both(layer, DynamicLayer(), 3, 2)
