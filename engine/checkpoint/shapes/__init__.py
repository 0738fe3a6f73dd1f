"""The tensors that a checkpoint of a known family stores, from its config.json alone."""

from __future__ import annotations

from engine.checkpoint.config import ModelConfig
from engine.checkpoint.files import JsonObject
from engine.checkpoint.tensors import StoredTensor

__all__ = ["tensors_of"]


def tensors_of(config: JsonObject, model: ModelConfig) -> tuple[StoredTensor, ...]:
    """Every tensor as a checkpoint of this config stores it; none where the family is unknown."""
    return ()
