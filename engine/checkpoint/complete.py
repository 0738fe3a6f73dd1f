"""Which tensors a checkpoint lacks, or has beyond those of its family."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from engine.checkpoint.config import ModelConfig
from engine.checkpoint.files import JsonObject
from engine.checkpoint.parameters import parameters_of
from engine.checkpoint.shapes import is_known_packing, tensors_of
from engine.checkpoint.tensors import StoredTensor

_HEADS = ("lm_head.weight", "embed_out.weight")
_KNOWN_SHARE = 0.5
"""Of the expected names; with fewer of them there, the checkpoint names its tensors in another way."""
_BASES = ("model.", "transformer.", "gpt_neox.", "backbone.")


class Completeness(NamedTuple):
    """How a checkpoint's tensors compare with those of its family.

    Attributes:
        missing: names that a model of this config has, and the checkpoint has not.
        extra: names of parameters that such a model has not (hostile).
        reshaped: names whose shape is another than config.json's (hostile).
    """

    missing: tuple[str, ...]
    extra: tuple[str, ...]
    reshaped: tuple[str, ...]


def completeness(
    config: JsonObject, model: ModelConfig, tensors: Iterable[StoredTensor]
) -> Completeness | None:
    """Compare a checkpoint's tensors with its family's; None where nobody here knows the family's names.

    Raises:
        DamagedCheckpoint: config.json says no size for one.
    """
    if model.quantization and not is_known_packing(model.quantization):
        return None
    present = {_bare(tensor.name): tensor for tensor in tensors}
    expected = {_bare(tensor.name): tensor for tensor in tensors_of(config, model)}
    there = expected.keys() & present.keys()
    if len(there) <= _KNOWN_SHARE * len(expected):
        return None
    may_lack = set(_HEADS) if model.is_tied is not False else set()
    is_plain = not model.quantization  # packed ones come in many widths
    counted = (name for name, tensor in present.items() if parameters_of(tensor, model))
    return Completeness(
        missing=tuple(sorted(expected.keys() - present.keys() - may_lack)),
        extra=tuple(sorted(set(counted) - expected.keys() - set(_HEADS))),
        reshaped=tuple(
            sorted(name for name in there if is_plain and expected[name].shape != present[name].shape)
        ),
    )


def _bare(name: str) -> str:
    """A name without the model's inner part, which old checkpoints leave out."""
    return next((name.removeprefix(base) for base in _BASES if name.startswith(base)), name)
