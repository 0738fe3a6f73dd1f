"""Whether the tensors' headers can belong to the config beside them."""

from __future__ import annotations

import re

from engine.checkpoint.config import ModelConfig
from engine.checkpoint.files import DOWNLOAD_AGAIN, shown
from engine.checkpoint.layers import layer_indices, main_list
from engine.checkpoint.tensors import StoredTensor
from engine.errors import DamagedCheckpoint

_EMBEDDING = re.compile(
    r"(^|\.)(embed_tokens|wte|word_embeddings|embed_in|tok_embeddings|embeddings)\.weight$"
)
_WEIGHT_DTYPES = ("F64", "F32", "F16", "BF16")


def check_consistency(config: ModelConfig, tensors: tuple[StoredTensor, ...]) -> None:
    """Refuse tensors that cannot belong to the config.

    Raises:
        DamagedCheckpoint: layers or the embedding are missing, of another shape or dtype.
    """
    _check_layers(config, tensors)
    _check_embedding(config, tensors)
    if not config.quantization:
        _check_dtypes(tensors)


def _check_layers(config: ModelConfig, tensors: tuple[StoredTensor, ...]) -> None:
    present = layer_indices(tensors, main_list(tensors, config.layers))
    missing = [index for index in range(config.layers) if index not in present]
    if missing:
        message = f"{len(missing)} of the {config.layers} layers in config.json have no weights"
        raise DamagedCheckpoint(f"{message}, first layer {missing[0]}.", DOWNLOAD_AGAIN)


def _check_embedding(config: ModelConfig, tensors: tuple[StoredTensor, ...]) -> None:
    embeddings = [tensor for tensor in tensors if _EMBEDDING.search(tensor.name)]
    if not embeddings:
        return
    if not any(tensor.shape[:1] == (config.vocab_size,) for tensor in embeddings):
        found = " × ".join(f"{side:,}" for side in embeddings[0].shape)
        message = (
            f"{shown(embeddings[0].name)} is {found}, and config.json says {config.vocab_size:,} tokens."
        )
        raise DamagedCheckpoint(message, DOWNLOAD_AGAIN)


def _check_dtypes(tensors: tuple[StoredTensor, ...]) -> None:
    for tensor in tensors:
        if len(tensor.shape) > 1 and tensor.name.endswith(".weight") and tensor.dtype not in _WEIGHT_DTYPES:
            message = f"{shown(tensor.name)} is {tensor.dtype}, and config.json names no quantization."
            raise DamagedCheckpoint(message, "Get config.json again, with its quantization_config.")
