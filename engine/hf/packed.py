"""Checkpoints that are stored quantized: what transformers is told of them, and where they cannot lie."""

from __future__ import annotations

from collections.abc import Collection

from engine.checkpoint import ModelConfig
from engine.checkpoint.quantizers import is_unpacked
from engine.errors import DoesNotFit

_WHOLE = ("bitsandbytes",)
"""Methods that keep a packed model on GPUs alone or in RAM alone."""


def ask_to_unpack(config: object, model: ModelConfig) -> None:
    """Have transformers unpack what the plan says it unpacks, instead of finding out while loading.

    With a GPU it would keep fp8 and mxfp4 packed, and then want kernels from a hub for the first token;
    compressed-tensors would unpack at the first token what it loaded packed.

    Args:
        config: transformers' own of the model; its quantization_config is changed.
        model: what config.json says.
    """
    said = getattr(config, "quantization_config", None)
    if isinstance(said, dict) and is_unpacked(model.quantization):
        said["dequantize"] = True


def refuse_split(model: ModelConfig, devices: Collection[int | str]) -> None:
    """Refuse to lay packed layers on a GPU and beside it, which transformers does not do.

    Raises:
        DoesNotFit: the plan does.
    """
    is_split = "disk" in devices or ("cpu" in devices and len(set(devices)) > 1)
    if model.quantization in _WHOLE and is_split:
        message = f"Weights that are stored by {model.quantization} lie on GPUs alone or in RAM alone."
        raise DoesNotFit(message, "Allow more of a GPU (--gpu) or none of it (--gpu 0=0).")


def unpacking_told(model: ModelConfig) -> tuple[str, ...]:
    """What a person is told of weights that were unpacked; nothing where they were not."""
    if not is_unpacked(model.quantization):
        return ()
    return (f"It is stored as {model.quantization}, and was unpacked to the dtype it is computed in.",)
