"""The tensors that a checkpoint of a known family stores, from its config.json alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from engine.checkpoint.config import ModelConfig
from engine.checkpoint.fields import Fields
from engine.checkpoint.files import JsonObject
from engine.checkpoint.shapes.dense import DENSE
from engine.checkpoint.shapes.experts import EXPERT_FAMILIES
from engine.checkpoint.shapes.family import Family
from engine.checkpoint.shapes.gpt import GPT
from engine.checkpoint.shapes.kinds import layer_words
from engine.checkpoint.shapes.legacy import LEGACY
from engine.checkpoint.shapes.packed import Entry, is_known_packing, packed_entries, packing_of
from engine.checkpoint.shapes.recurrent import RECURRENT
from engine.checkpoint.shapes.words import Shape, Words, common_sizes
from engine.checkpoint.tensors import DTYPE_BITS, StoredTensor
from engine.errors import DamagedCheckpoint

__all__ = ["FAMILIES", "is_known_packing", "tensors_of"]

FAMILIES: dict[str, Family] = {**DENSE, **GPT, **EXPERT_FAMILIES, **RECURRENT, **LEGACY}
"""Every known family by `model_type`."""
_DTYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_UNSAID = "F32"
_OWN_DTYPES = {"causal_mask": "BOOL", "e_score_correction_bias": "F32"}
"""Of tensors that keep theirs, whatever the weights are stored in; by the last part of their names."""
_MOST_TENSORS = 300_000
_MOST_ELEMENTS = 2**50
_NOWHERE = Path()


def tensors_of(config: JsonObject, model: ModelConfig) -> tuple[StoredTensor, ...]:
    """Every tensor as a checkpoint of this config stores it; none where the family is unknown.

    Raises:
        DamagedCheckpoint: config.json says no size for one, or describes more than any machine holds.
    """
    family = FAMILIES.get(_family_name(config))
    if family is None:
        return ()
    tensors: list[StoredTensor] = []
    elements = 0
    for name, dtype, shape in _entries(family, Fields(config), model):
        elements += math.prod(shape)
        if len(tensors) >= _MOST_TENSORS or elements > _MOST_ELEMENTS:
            raise _absurd(len(tensors), elements)
        tensors.append(_stored(name, shape, dtype))
    return tuple(tensors)


def _family_name(config: JsonObject) -> str:
    name = str(config.get("model_type") or "")
    return "chatglm2" if name == "chatglm" and "padded_vocab_size" in config else name


def _entries(family: Family, fields: Fields, model: ModelConfig) -> Iterator[Entry]:
    """Name, dtype and shape of every tensor; those of the layers packed where config.json says how."""
    dtype = _DTYPES.get(model.dtype, _UNSAID)
    sizes = common_sizes(fields, model)
    sizes |= family.words(fields, sizes)
    for name, shape in Words(fields, sizes).shapes(family.outside):
        yield name, dtype, shape
    packing = packing_of(fields, model)
    alike: dict[tuple[tuple[str, int], ...], tuple[Entry, ...]] = {}
    for index in range(model.layers):
        own = layer_words(fields, model, sizes, index)
        key = tuple(own.items())
        if key not in alike:
            shapes = Words(fields, sizes | own).shapes(family.layer)
            alike[key] = tuple(packed_entries(shapes, dtype, model.quantization, packing))
        for name, stored_as, shape in alike[key]:
            own_dtype = _OWN_DTYPES.get(name.rpartition(".")[2], stored_as)
            yield f"{family.layers}.{index}.{name}", own_dtype, shape


def _stored(name: str, shape: Shape, dtype: str) -> StoredTensor:
    return StoredTensor(name, dtype, shape, 0, math.prod(shape) * DTYPE_BITS[dtype] // 8, _NOWHERE)


def _absurd(tensors: int, elements: int) -> DamagedCheckpoint:
    message = f"config.json describes more than {tensors:,} tensors and {elements:,} parameters."
    return DamagedCheckpoint(message, "Get config.json again from where the model came from.")
