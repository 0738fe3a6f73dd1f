"""Tokens that are computed at a load exist, and the whole vocabulary is asked for only where it must be."""

from __future__ import annotations

from typing import Any

import pytest

from engine.hf.backend import HFBackend
from engine.hf.warm_up import TOKENS, known_ids
from tests import tiny_models
from tests.engine.hf.talk import Talk


class Words:
    """A tokenizer that knows some ids."""

    def __init__(self, *ids: int, is_fast: bool = True) -> None:
        self._known = {f"w{token_id}": token_id for token_id in ids}
        self.is_fast = is_fast
        self.asked = 0

    def get_vocab(self) -> dict[str, int]:
        self.asked += 1
        return self._known

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str | None]:
        assert self.is_fast
        return [f"w{token_id}" if f"w{token_id}" in self._known else None for token_id in ids]


def ids_of(tokenizer: Any) -> list[int]:
    return known_ids(tokenizer)


def test_the_first_tokens_are_taken_where_all_of_them_exist() -> None:
    words = Words(*range(1000))
    assert ids_of(words) == list(range(1, TOKENS + 1))
    assert not words.asked


@pytest.mark.parametrize("is_fast", [True, False])
def test_a_vocabulary_with_gaps_is_asked_for(is_fast: bool) -> None:
    words = Words(0, *range(7, 1000, 3), is_fast=is_fast)
    assert ids_of(words) == list(range(7, 7 + 3 * TOKENS, 3))
    assert words.asked == 1


def test_a_load_asks_for_no_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_models.checkpoint("llama")
    tokenizer = type(Talk(folder).inner.tokenizer)
    asked: list[object] = []
    monkeypatch.setattr(tokenizer, "get_vocab", asked.append)
    backend: HFBackend = Talk(folder).backend
    backend.unload()
    assert not asked
