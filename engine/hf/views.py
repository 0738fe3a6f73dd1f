"""Models that transformers builds on tensors of ours, which may still be on their way from the disk."""

from __future__ import annotations

import copy
from typing import Any

import torch
from transformers import BitsAndBytesConfig

from engine.errors import DamagedCheckpoint
from engine.hf.protocols import CausalModel

NAMED_TENSORS = 3


def built(
    kind: type[Any],
    config: object,
    attention: str,
    quantization: BitsAndBytesConfig | None,
    state: dict[str, torch.Tensor],
) -> CausalModel:
    """Let transformers build a model in RAM; what is used as it is stays where it lies.

    Args:
        kind: the model's class.
        config: of the model; left as it is.
        attention: name of the implementation.
        quantization: by which the tensors were packed before; None where they were not.
        state: its tensors by name, as in a checkpoint.

    Raises:
        DamagedCheckpoint: tensors are missing.
    """
    own = copy.deepcopy(config)
    if quantization is not None:
        vars(own)["quantization_config"] = quantization.to_dict()
    model, report = kind.from_pretrained(
        None, config=own, state_dict=state, dtype="auto", device_map={"": "cpu"},
        attn_implementation=attention, output_loading_info=True,
    )  # fmt: skip
    refuse_missing(report["missing_keys"])
    made: CausalModel = model.eval()
    return made


def refuse_missing(missing: list[str]) -> None:
    """Refuse what transformers would fill with random numbers."""
    if missing:
        names = ", ".join(sorted(missing)[:NAMED_TENSORS])
        more = " and more" if len(missing) > NAMED_TENSORS else ""
        raise DamagedCheckpoint(
            f"The checkpoint lacks {len(missing)} tensors: {names}{more}.", "Download the model again."
        )
