"""A model folder's config.json to a Blueprint: its own class, built and run on no device."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoModelForCausalLM

from engine.blueprints import Blueprint
from engine.checkpoint import ModelConfig, look_at, read_config
from engine.checkpoint.code import refuse_kernels
from engine.checkpoint.files import read_json, shown
from engine.checkpoint.native import native_class
from engine.errors import DamagedCheckpoint, EngineError, UnsupportedModel
from engine.hf import failures
from engine.hf.adapted import config_of
from engine.hf.dryrun_forward import META, Seen, rehearse
from engine.hf.dryrun_layers import find_layers
from engine.hf.dryrun_tally import NoDevice
from engine.hf.dryrun_tensors import built_tensors, distinct_parameters, tied_names
from engine.hf.load import COMPUTED, attention_of
from engine.hf.protocols import CausalModel

BUILD_SECONDS = 20.0
FORWARD_SECONDS = 15.0
STORED_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_HINT = "Get config.json again from where the model came from, or update transformers."
_UNKNOWN = "It can be planned from its headers; vramble runs no code from a repository."
_BROKEN = (*failures.FAILURES, StrictDataclassError, RecursionError)

_log = logging.getLogger(__name__)


def dry_run(folder: Path) -> Blueprint:
    """Build the model that a folder's config.json describes, and follow forwards of it.

    Nothing of the folder runs, no weight is read, and every tensor lies on the meta device.

    Args:
        folder: config.json is enough; weights tell the dtype where it does not.

    Raises:
        DamagedCheckpoint: config.json is missing, malformed, or describes what cannot be built.
        UnsafeCheckpoint: it names code to be fetched.
        UnsupportedModel: transformers itself has no class for it.
    """
    refuse_kernels(read_json(folder, "config.json"))
    config = read_config(folder)
    if not native_class(config.model_type, config.architecture):
        wanted = shown(config.architecture or config.model_type or "a family that it does not name")
        raise UnsupportedModel(f"transformers has no class of its own for {wanted}.", _UNKNOWN)
    dtype = _dtype(folder, config)
    model = _built(folder, dtype)
    found = find_layers(model, config.layers)
    tensors = built_tensors(model, dtype, config.active_experts)
    seen = _rehearsed(model, found.layers, config)
    return Blueprint(
        architecture=type(model).__name__,
        parameters=distinct_parameters(model),
        tensors=tensors,
        layer_list=found.path,
        tied=tied_names(model),
        caches=seen.caches,
        peaks=seen.peaks,
        step_ops=seen.step_ops,
        step_convolutions=seen.step_convolutions,
        step_bytes=seen.step_bytes,
        prompt_bytes=seen.prompt_bytes,
    )


def _dtype(folder: Path, config: ModelConfig) -> torch.dtype:
    """Return what the weights are loaded in: as config.json says, else as they are stored."""
    if config.dtype:
        return COMPUTED.get(config.dtype, torch.bfloat16)
    stored = (STORED_DTYPES[t.dtype] for t in look_at(folder).tensors if t.dtype in STORED_DTYPES)
    return next(stored, torch.bfloat16)


def _built(folder: Path, dtype: torch.dtype) -> CausalModel:
    """Build the model on the meta device."""
    try:
        config = config_of(folder)
        with NoDevice(BUILD_SECONDS), META:
            model: CausalModel = AutoModelForCausalLM.from_config(
                config, attn_implementation=attention_of(config), dtype=dtype, trust_remote_code=False
            )
    except EngineError:
        raise
    except MemoryError as error:
        raise failures.named(error, "building the model") from error
    except _BROKEN as error:
        line = shown(next(iter(str(error).strip().splitlines()), type(error).__name__), 200)
        raise DamagedCheckpoint(
            f"config.json describes a model that cannot be built: {line}", _HINT
        ) from error
    return model.eval()


def _rehearsed(model: CausalModel, layers: torch.nn.ModuleList, config: ModelConfig) -> Seen:
    """Follow forwards; nothing seen where the class computes with numbers that are not there."""
    try:
        return rehearse(model, layers, config, FORWARD_SECONDS)
    except (*_BROKEN, UnsupportedModel) as error:
        _log.info("No forward of %s could be followed: %s", type(model).__name__, error)
        return Seen()
