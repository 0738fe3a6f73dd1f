"""Bytes of models that bitsandbytes really packed, against what a blueprint foretells."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.checkpoint import inspect_folder
from engine.hf.dryrun import dry_run
from engine.hf.load import Source, load_model
from engine.hf.progress import Progress
from engine.plan import Footprint, footprint_of
from engine.values import Placement, Quantization
from tests import tiny_models
from tests.engine.hf.dryruns import FAMILIES
from tests.engine.hf.talk import never

PACKED = (Quantization.INT8, Quantization.NF4)


def loaded_bytes(folder: Path, quantization: Quantization, footprint: Footprint) -> dict[str, int]:
    """What a loaded model's storages take, by the module of the footprint."""
    placement = Placement(context_window=64, quantization=quantization)
    placed = load_model(Source(inspect_folder(folder)), placement, None, Progress(lambda _: None, never))
    names = [module.name for module in footprint.modules if not module.tied_to]
    sizes = dict.fromkeys(names, 0)
    for name, tensor in _distinct(_stored(placed.model)):
        module = next(module for module in names if f"{name}.".startswith(f"{module}."))
        sizes[module] += tensor.nbytes
    return sizes


def held_bytes(model: Any) -> int:
    """What all of a loaded model's storages take."""
    return sum(tensor.nbytes for _, tensor in _distinct(_stored(model)))


def _stored(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of a model, and what bitsandbytes keeps beside it to unpack it."""
    for name, parameter in model.named_parameters():
        yield name, parameter
        state = getattr(parameter, "quant_state", None)
        beside = (
            getattr(state, "absmax", None),
            getattr(state, "code", None),
            getattr(parameter, "SCB", None),
        )
        yield from ((name, tensor) for tensor in beside if isinstance(tensor, torch.Tensor))
    yield from model.named_buffers()


def _distinct(named: Iterator[tuple[str, torch.Tensor]]) -> Iterator[tuple[str, torch.Tensor]]:
    seen: set[tuple[int, int]] = set()
    for name, tensor in named:
        key = (tensor.data_ptr(), tensor.nbytes)
        if key not in seen:
            yield name, tensor
        seen.add(key)


@pytest.mark.parametrize("quantization", PACKED)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_packed_model_takes_exactly_what_was_foretold(
    family: str, quantization: Quantization, tmp_path: Path
) -> None:
    folder = tiny_models.make(family, tmp_path, dtype=torch.bfloat16)
    footprint = footprint_of(inspect_folder(folder), quantization, dry_run(folder))
    foretold = {module.name: module.bytes for module in footprint.modules if not module.tied_to}
    assert loaded_bytes(folder, quantization, footprint) == foretold


@pytest.mark.parametrize("quantization", PACKED)
def test_without_a_blueprint_only_buffers_are_missing(quantization: Quantization, tmp_path: Path) -> None:
    for family in ("gptj", "gpt2", "gemma2", "qwen3_moe", "deepseek_v2"):
        folder = tiny_models.make(family, tmp_path, dtype=torch.bfloat16)
        blueprint, verdict = dry_run(folder), inspect_folder(folder)
        buffers = sum(torch.Size(t.shape).numel() * t.itemsize for t in blueprint.tensors if t.is_buffer)
        exact = footprint_of(verdict, quantization, blueprint).weight_bytes
        assert footprint_of(verdict, quantization).weight_bytes == exact - buffers, family


@pytest.mark.parametrize("quantization", PACKED)
def test_a_tied_head_stays_as_wide_as_its_embedding(quantization: Quantization, tmp_path: Path) -> None:
    folder = tiny_models.make("qwen3", tmp_path, dtype=torch.bfloat16)
    made = footprint_of(inspect_folder(folder), quantization, dry_run(folder))
    assert (made.modules[-1].bytes, made.modules[-1].tied_to) == (0, "model.embed_tokens")
    assert made.modules[0].bytes == made.modules[0].plain_bytes
