from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.checkpoint import inspect_folder, look_at
from engine.checkpoint.adapted import family_of
from engine.errors import DamagedCheckpoint, NotACheckpoint, UnsafeCheckpoint, UnsupportedModel
from tests.engine.checkpoint.making import LLAMA, checkpoint, sharded, write_json
from tests.engine.published import CHATGLM, PUBLISHED, REMOTE


def config_alone(folder: Path, config: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    write_json(folder / "config.json", config)
    return folder


def test_weights_on_disk_are_looked_at_as_the_gate_does(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path)
    assert look_at(folder) == inspect_folder(folder)
    assert look_at(folder).is_on_disk


def test_config_alone_gives_the_tensors_that_its_family_stores(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    whole = look_at(checkpoint(tmp_path / "whole"))
    alone = look_at(config_alone(tmp_path / "alone", LLAMA))
    shapes = {tensor.name: (tensor.dtype, tensor.shape) for tensor in whole.tensors}
    assert {tensor.name: (tensor.dtype, tensor.shape) for tensor in alone.tensors} == shapes
    assert (alone.is_on_disk, alone.native_class) == (False, "LlamaForCausalLM")
    assert any("not in the folder" in warning for warning in alone.warnings)


@pytest.mark.parametrize("name", REMOTE)
def test_repositories_with_code_are_planned_without_running_it(name: str, tmp_path: Path) -> None:
    (tmp_path / "modeling_own.py").write_text("raise SystemExit('it ran')")
    verdict = look_at(config_alone(tmp_path, REMOTE[name]))
    family = family_of(REMOTE[name])
    assert verdict.parameters > 10**9
    assert verdict.native_class == (family.native_class if family else "")
    is_obstructed = any(
        warning.startswith("It can be planned, and not loaded") for warning in verdict.warnings
    )
    assert is_obstructed == (family is None)
    with pytest.raises((UnsafeCheckpoint, UnsupportedModel) if family is None else NotACheckpoint):
        inspect_folder(tmp_path)


def test_pickles_alone_are_planned_from_the_config_and_never_opened(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model-00001-of-00008.bin").write_bytes(b"\x80\x04no pickle")
    verdict = look_at(config_alone(tmp_path, CHATGLM))
    assert verdict.weight_bytes == 2 * verdict.parameters
    assert any("only pickles" in warning for warning in verdict.warnings)


def test_weights_that_were_never_downloaded_are_planned_from_the_config(tmp_path: Path) -> None:
    folder = sharded(tmp_path)
    for shard in folder.glob("model-*"):
        shard.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    verdict = look_at(folder)
    assert not verdict.is_on_disk
    assert "Git LFS pointer" in verdict.warnings[0]
    with pytest.raises(DamagedCheckpoint):
        inspect_folder(folder)


def test_damaged_weights_of_an_unknown_family_are_refused(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, model_type="rwkv", state_size=4)
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(DamagedCheckpoint):
        look_at(folder)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (LLAMA | {"model_type": "rwkv", "architectures": ["RwkvForCausalLM"]}, "Only a dry run"),
        (LLAMA | {"model_type": "new", "architectures": ["New"]}, "Nothing here knows the shapes of new"),
        (LLAMA | {"torch_dtype": None}, "4 bytes a weight"),
        (LLAMA | {"quantization_config": {"quant_method": "hqq"}}, "counted unpacked"),
        (LLAMA | {"quantization_config": {"quant_method": "gptq", "bits": 4}}, "needs optimum and gptqmodel"),
        (LLAMA | {"attn_implementation": "someone/kernel"}, "code from a hub"),
        (LLAMA | {"transformers_weights": "../x"}, "its own weights file"),
        (REMOTE["Qwen-7B"], "modeling_qwen.py"),
        (CHATGLM, "both directions"),
    ],
)
def test_what_a_load_would_refuse_is_said(config: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    assert any(sentence in warning for warning in look_at(config_alone(tmp_path, config)).warnings)


def test_other_formats_without_a_config_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(UnsupportedModel):
        look_at(tmp_path)
    with pytest.raises(NotACheckpoint):
        look_at(tmp_path / "none")


def test_looking_imports_no_torch(tmp_path: Path) -> None:
    folder = config_alone(tmp_path, PUBLISHED["DeepSeek-V3"])
    program = (
        "import sys, pathlib, engine; engine.look_at(pathlib.Path(sys.argv[1]));"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'safetensors')))"
    )
    subprocess.run([sys.executable, "-c", program, str(folder)], check=True, timeout=60)
