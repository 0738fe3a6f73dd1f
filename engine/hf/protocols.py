"""What is built on of transformers' classes: nothing else of them is touched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import torch


class TextTokenizer(Protocol):
    """A tokenizer, fast or slow."""

    bos_token_id: int | None
    eos_token_id: int | None
    all_special_tokens: list[str]

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> Mapping[str, list[int]]:
        """Return {"input_ids": ids}."""

    def decode(
        self, token_ids: Sequence[int], *, skip_special_tokens: bool, clean_up_tokenization_spaces: bool
    ) -> str:
        """Return the text of ids."""

    def get_vocab(self) -> dict[str, int]:
        """Return every token's id."""

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str | None]:
        """Return the tokens of ids; None for one that a fast tokenizer has no token for."""

    def get_added_vocab(self) -> dict[str, int]:
        """Return the ids of tokens that are matched as whole strings."""

    def apply_chat_template(
        self,
        conversation: list[dict[str, str]],
        *,
        tokenize: bool,
        chat_template: str | None,
        add_generation_prompt: bool,
        continue_final_message: bool,
    ) -> str:
        """Return the conversation's text."""


class ModelOutput(Protocol):
    """What a forward returns."""

    logits: torch.Tensor


class CausalModel(Protocol):
    """A causal language model."""

    config: object
    base_model_prefix: str
    dtype: torch.dtype
    forward: Callable[..., ModelOutput]

    def __call__(self, **arguments: object) -> ModelOutput:
        """Compute logits [1, tokens, vocabulary]."""

    def eval(self) -> CausalModel:
        """Switch dropout off."""

    def modules(self) -> Iterator[torch.nn.Module]:
        """Yield every module once."""

    def named_modules(self) -> Iterator[tuple[str, torch.nn.Module]]:
        """Yield every module once, with its path."""

    def get_output_embeddings(self) -> torch.nn.Module | None:
        """Return the head."""

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Yield every parameter once."""

    def buffers(self) -> Iterator[torch.Tensor]:
        """Yield every buffer once."""

    def named_parameters(self, *, remove_duplicate: bool = True) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """Yield every parameter once, or under each of its names."""

    def named_buffers(self, *, remove_duplicate: bool = True) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield every buffer once, or under each of its names."""


class CacheLayer(Protocol):
    """One layer's cache; which of these fields there are depends on its class."""

    keys: torch.Tensor
    values: torch.Tensor
    is_initialized: bool
    is_sliding: bool
    sliding_window: int

    def crop(self, tokens_to_remove: int) -> None:
        """Remove -tokens_to_remove tokens from the end."""

    def get_seq_length(self) -> int:
        """Return the tokens it has seen."""
