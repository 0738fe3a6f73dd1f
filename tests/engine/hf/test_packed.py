"""Checkpoints that are stored quantized: each chats as it was planned, or says what is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engine.checkpoint import inspect_folder, look_at, quantizers
from engine.errors import DoesNotFit, UnsupportedModel
from engine.hf.dryrun import dry_run
from engine.hf.load import Source, load_model
from engine.hf.packed import ask_to_unpack, refuse_split
from engine.hf.progress import Progress
from engine.plan import footprint_of
from engine.values import Quantization
from tests import packed_models, tiny_models
from tests.engine.hf.talk import Talk, in_ram, never
from tests.engine.hf.test_dryrun_quantized import held_bytes, loaded_bytes

UNPACKED = (packed_models.fp8, packed_models.mxfp4)
PACKED: dict[str, dict[str, Any]] = {
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    "int8": {"load_in_8bit": True},
}
Maker = Callable[[Path], Path]

pytestmark = pytest.mark.filterwarnings("ignore:.*mismatch.*")


def loaded(folder: Path) -> Any:
    return load_model(Source(inspect_folder(folder)), in_ram(), None, Progress(lambda _: None, never)).model


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize("make", UNPACKED)
def test_what_is_unpacked_on_load_is_planned_so_said_so_and_chats(make: Maker, tmp_path: Path) -> None:
    folder = make(tmp_path)
    verdict = inspect_folder(folder)
    footprint = footprint_of(verdict, blueprint=dry_run(folder))
    foretold = {module.name: module.bytes for module in footprint.modules if not module.tied_to}
    assert loaded_bytes(folder, Quantization.NONE, footprint) == foretold
    assert footprint.weight_bytes > 1.4 * verdict.weight_bytes
    assert any("unpacked while loading" in note for note in footprint.notes)
    talk = Talk(folder)
    assert any("was unpacked" in note for note in talk.loaded.notes)
    assert talk.ask("Hello").finished.usage.completion_tokens > 0


@pytest.mark.parametrize("make", UNPACKED)
def test_headers_alone_foretell_the_unpacked_bytes(make: Maker, tmp_path: Path) -> None:
    folder = make(tmp_path)
    blueprint, verdict = dry_run(folder), inspect_folder(folder)
    buffers = sum(torch.Size(t.shape).numel() * t.itemsize for t in blueprint.tensors if t.is_buffer)
    assert (
        footprint_of(verdict).weight_bytes
        == footprint_of(verdict, blueprint=blueprint).weight_bytes - buffers
    )
    assert verdict.parameters == blueprint.parameters


def test_unpacked_weights_are_what_was_packed(tmp_path: Path) -> None:
    plain = tiny_models.make("llama", _made(tmp_path / "plain"), dtype=torch.bfloat16)
    packed = packed_models.fp8(tmp_path)
    models = [loaded(folder) for folder in (plain, packed)]
    name = "model.layers.1.mlp.up_proj.weight"
    was, now = (dict(model.named_parameters())[name].detach() for model in models)
    assert now.dtype is was.dtype
    assert torch.allclose(was.float(), now.float(), atol=float(was.abs().max()) / 16)


@pytest.mark.parametrize("how", PACKED)
def test_what_bitsandbytes_packed_is_planned_as_it_lies_and_chats(how: str, tmp_path: Path) -> None:
    folder = packed_models.bitsandbytes(tmp_path, **PACKED[how])
    verdict = inspect_folder(folder)
    footprint = footprint_of(verdict, blueprint=dry_run(folder))
    rotary_bytes = sum(
        torch.Size(t.shape).numel() * t.itemsize for t in dry_run(folder).tensors if t.is_buffer
    )
    assert held_bytes(loaded(folder)) == footprint.weight_bytes + rotary_bytes
    assert Talk(folder).ask("Hello").finished.usage.completion_tokens > 0


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            packed_models.gptq,
            "gptq, which needs optimum and gptqmodel. `pip install 'optimum>=1.24.0' 'gptqmodel>=1.4.3'`",
        ),
        (packed_models.awq, "awq, which needs gptqmodel. `pip install gptqmodel`"),
        (
            packed_models.compressed_tensors,
            "needs compressed-tensors. `pip install 'compressed-tensors>=0.15.0'`",
        ),
        (packed_models.gguf, "holds tiny.Q4_K_M.gguf, and vramble reads safetensors. Get the same model as"),
    ],
)
def test_what_cannot_be_loaded_says_what_is_missing(make: Maker, sentence: str, tmp_path: Path) -> None:
    folder = make(tmp_path)
    packages = ("optimum", "gptqmodel", "compressed-tensors")
    if any(quantizers.Package(name).version for name in packages):
        pytest.skip("one of the packages is here")
    with pytest.raises(UnsupportedModel) as refused:
        inspect_folder(folder)
    assert sentence in str(refused.value)


@pytest.mark.parametrize("make", [packed_models.gptq, packed_models.awq])
def test_what_stays_packed_is_planned_by_its_headers(make: Maker, tmp_path: Path) -> None:
    verdict = look_at(make(tmp_path))
    assert footprint_of(verdict).weight_bytes == verdict.weight_bytes
    assert verdict.parameters == look_at(tiny_models.checkpoint("llama")).parameters


def test_words_of_compressed_tensors_are_planned_unpacked(tmp_path: Path) -> None:
    verdict = look_at(packed_models.compressed_tensors(tmp_path))
    plain = look_at(tiny_models.make("llama", _made(tmp_path / "plain"), dtype=torch.bfloat16))
    assert footprint_of(verdict).weight_bytes == plain.weight_bytes
    assert verdict.parameters == plain.parameters


def test_transformers_is_told_to_unpack_also_where_it_would_not(tmp_path: Path) -> None:
    said = {"quant_method": "fp8", "modules_to_not_convert": ["lm_head"]}
    model = inspect_folder(packed_models.fp8(tmp_path)).config
    ask_to_unpack(SimpleNamespace(quantization_config=said), model)
    assert said == {"quant_method": "fp8", "modules_to_not_convert": ["lm_head"], "dequantize": True}


@pytest.mark.parametrize("devices", [[0, "cpu"], ["cpu", "disk"]])
def test_packed_layers_are_not_split(devices: list[int | str], tmp_path: Path) -> None:
    config = inspect_folder(packed_models.bitsandbytes(tmp_path, **PACKED["int8"])).config
    with pytest.raises(DoesNotFit, match="on GPUs alone or in RAM alone"):
        refuse_split(config, devices)
    refuse_split(config, [0, 1])
    refuse_split(config, ["cpu"])
