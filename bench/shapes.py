"""The models of random weights that the benches share, each made once in a folder of its own."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from bench.models import make
from bench.rows import Asked, Rounds, Row

_LLAMA: dict[str, Any] = {"family": "llama_large", "tie_word_embeddings": True, "num_key_value_heads": 8}


class Shape(enum.Enum):
    """Configurations; the names are the folders'."""

    SMALL = "small"
    ONE_B = "1b"
    THREE_B = "3b"
    EXPERTS = "experts"


_FIELDS: dict[Shape, dict[str, Any]] = {
    Shape.SMALL: {"family": "llama", "layers": 10},
    Shape.ONE_B: _LLAMA | {"layers": 16, "head_dim": 64},
    Shape.THREE_B: _LLAMA | {"layers": 28, "head_dim": 128, "hidden_size": 3072, "num_attention_heads": 24},
    Shape.EXPERTS: {"family": "mixtral", "layers": 16, "tie_word_embeddings": True},
}
QUICK_LAYERS = 4


def layers_of(shape: Shape, asked: Asked) -> int:
    """How many; llama.cpp's model has as many as the shape, and is never smaller."""
    whole: int = _FIELDS[shape]["layers"]
    is_cut = asked.quick and not asked.llama_cpp and shape is not Shape.SMALL
    return QUICK_LAYERS if is_cut else whole


def model_folder(asked: Asked, shape: Shape) -> Path:
    """Return where a model lies, made if it was not before."""
    layers = layers_of(shape, asked)
    folder = asked.folder / f"random-{shape.value}-{layers}-layers"
    if not list(folder.glob("*.safetensors")):
        fields = {key: value for key, value in _FIELDS[shape].items() if key not in {"family", "layers"}}
        make(_FIELDS[shape]["family"], layers, torch.bfloat16, folder, **fields)
    return folder


def on_model(
    asked: Asked, shape: Shape, rows: Callable[[Path, Rounds], Iterator[Row]]
) -> Callable[[Rounds], Iterator[Row]]:
    """Measure rows on a model that is made only then: other cases do without it."""
    return lambda rounds: rows(model_folder(asked, shape), rounds)
