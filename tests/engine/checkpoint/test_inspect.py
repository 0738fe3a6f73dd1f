from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.checkpoint import inspect_folder
from engine.checkpoint import native as native_module
from engine.errors import (
    CheckpointError,
    DamagedCheckpoint,
    NotACheckpoint,
    UnsafeCheckpoint,
    UnsupportedModel,
)
from tests.engine.checkpoint.making import Shapes, checkpoint, llama_shapes, safetensors, sharded, write_json

ROOT = Path(__file__).parents[3]


def audited(*folders: Path) -> dict[str, dict[str, Any]]:
    sound = checkpoint(folders[0].parent / "sound")
    command = [sys.executable, "-m", "tests.engine.checkpoint.audit", *map(str, (sound, *folders))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert answers.pop(0)["seen"], "the hook is deaf"
    return {answer["folder"]: answer for answer in answers}


def test_a_sound_folder_says_what_it_is(tmp_path: Path) -> None:
    verdict = inspect_folder(checkpoint(tmp_path / "m"))
    assert (verdict.native_class, verdict.dtype, verdict.warnings) == ("LlamaForCausalLM", "BF16", ())
    assert verdict.weight_bytes == 2 * verdict.parameters
    assert verdict.parameters == sum(tensor.elements for tensor in verdict.tensors)


def test_shards_are_as_good_as_one_file(tmp_path: Path) -> None:
    one, many = inspect_folder(checkpoint(tmp_path / "one")), inspect_folder(sharded(tmp_path / "many"))
    assert one.parameters == many.parameters


def test_a_tied_head_counts_once(tmp_path: Path) -> None:
    free = inspect_folder(checkpoint(tmp_path / "free", tie_word_embeddings=False))
    tied = inspect_folder(checkpoint(tmp_path / "tied", tie_word_embeddings=True))
    assert free.parameters - tied.parameters == 64 * 16


def test_packed_weights_count_as_the_parameters_they_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.checkpoint.gates.obstacle", lambda _: None)
    folder = checkpoint(tmp_path, quantization_config={"quant_method": "gptq", "bits": 4})
    shapes: Shapes = {f"model.layers.{n}.mlp.up_proj.qweight": (2, 32) for n in range(2)}
    (folder / "model.safetensors").write_bytes(safetensors(shapes, "I32"))
    verdict = inspect_folder(folder)
    assert (verdict.parameters, verdict.dtype) == (2 * 2 * 32 * 8, "I32")


def empty(folder: Path) -> None:
    folder.mkdir()


def a_file(folder: Path) -> None:
    folder.write_text("weights")


def missing(folder: Path) -> None:
    assert not folder.exists()


def no_weights(folder: Path) -> None:
    (checkpoint(folder) / "model.safetensors").unlink()


def foreign_names(folder: Path) -> None:
    (checkpoint(folder) / "model.safetensors").rename(folder / "consolidated.safetensors")


def pictures(folder: Path) -> None:
    folder.mkdir()
    write_json(folder / "model_index.json", {})


@pytest.mark.parametrize("make", [empty, a_file, missing, no_weights, foreign_names, pictures])
def test_what_is_no_checkpoint_is_said_in_a_sentence(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "m")
    with pytest.raises(NotACheckpoint) as caught:
        inspect_folder(tmp_path / "m")
    assert "m" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("name", ["model.gguf", "adapter_config.json", "model.onnx"])
def test_other_formats_are_named(tmp_path: Path, name: str) -> None:
    no_weights(tmp_path / "m")
    (tmp_path / "m" / name).write_text("{}")
    with pytest.raises(UnsupportedModel) as caught:
        inspect_folder(tmp_path / "m")
    assert caught.value.hint


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "bert", "architectures": ["BertForMaskedLM"]},
        {"model_type": "no_such_model", "architectures": ["NoSuchForCausalLM"]},
        {"model_type": 7, "architectures": "LlamaForCausalLM"},
        {"transformers_weights": "other.safetensors"},
        {"quantization_config": {"quant_method": "made_up"}},
        {"quantization_config": {"quant_method": "../../x"}},
    ],
)
def test_what_nothing_here_runs_is_unsupported(tmp_path: Path, config: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedModel) as caught:
        inspect_folder(checkpoint(tmp_path / "m", **config))
    assert caught.value.hint


def test_the_class_is_found_by_the_family_where_none_is_named(tmp_path: Path) -> None:
    assert inspect_folder(checkpoint(tmp_path, architectures=None)).native_class == "LlamaForCausalLM"


def test_without_transformers_nothing_is_native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_module, "_source_folder", lambda _: None)
    native_module.native_architectures.cache_clear()
    try:
        assert native_module.native_class("llama", "LlamaForCausalLM") == ""
    finally:
        native_module.native_architectures.cache_clear()


def test_warnings_say_what_to_know_before_loading(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, eos_token_id=None)
    (folder / "tokenizer_config.json").unlink()
    (folder / "training_args.bin").write_bytes(b"")
    warnings = " ".join(inspect_folder(folder).warnings)
    assert "training_args.bin" in warnings
    assert "no chat template" in warnings
    assert "ends a reply" in warnings


# Check 25


def auto_map(
    file: str, name: str = "AutoModelForCausalLM", reference: Any = "modeling_x.X"
) -> dict[str, Any]:
    return {file: {"auto_map": {name: reference}}}


CODE_KINDS: dict[str, tuple[dict[str, Any], str]] = {
    "config": (auto_map("config.json", "AutoConfig", "configuration_x.X"), "configuration_x.py"),
    "model": (auto_map("config.json"), "modeling_x.py"),
    "tokenizer": (
        auto_map("tokenizer_config.json", "AutoTokenizer", ["tokenization_x.X", None]),
        "tokenization_x.py",
    ),
    "processor": (auto_map("processor_config.json", "AutoProcessor", "processing_x.X"), "processing_x.py"),
    "preprocessor": (auto_map("preprocessor_config.json", "AutoImageProcessor", "image_x.X"), "image_x.py"),
    "cross_repo": (auto_map("config.json", reference="evil/repo--modeling_y.Y"), "evil/repo/modeling_y.py"),
    "nested": (
        {"config.json": {"inner": [{"auto_map": {"AutoModel": "deep.modeling_z.Z"}}]}},
        "deep/modeling_z.py",
    ),
    "custom_generate": (
        {"generation_config.json": {"custom_generate": "evil/repo"}},
        "custom_generate/generate.py",
    ),
    "generate_folder": ({"custom_generate/generate.py": "raise SystemExit"}, "custom_generate/generate.py"),
    "plugins": ({"configuration.json": {"plugins": ["evil"]}}, "configuration.json (plugins)"),
    "allow_remote": ({"configuration.json": {"allow_remote": True}}, "configuration.json (allow_remote)"),
    "ms_wrapper": ({"ms_wrapper.py": "raise SystemExit"}, "ms_wrapper.py"),
    "trusted_owner": ({"damo/ms_wrapper.py": "", "modeling_iic.py": "raise SystemExit"}, "modeling_iic.py"),
    "requirements": ({"requirements.txt": "evil==1"}, "requirements.txt"),
}


def with_code(folder: Path, files: dict[str, Any], **config: Any) -> Path:
    checkpoint(folder, **config)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        before = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(content if isinstance(content, str) else json.dumps(before | content))
    for name in ("modeling_x.py", "configuration_x.py", "__init__.py", "evil.pth"):
        (folder / name).write_text("import os; os.system('true'); input('Trust me? ')\n")
    return folder


def test_check_25_no_repository_runs_code_and_the_refusal_names_its_files(tmp_path: Path) -> None:
    strange = {"model_type": "strange", "architectures": ["StrangeForCausalLM"]}
    refused = [with_code(tmp_path / kind, files, **strange) for kind, (files, _) in CODE_KINDS.items()]
    native = [with_code(tmp_path / f"native_{kind}", files) for kind, (files, _) in CODE_KINDS.items()]
    answers = audited(*refused, *native)
    for kind, (_, file) in CODE_KINDS.items():
        can_be_asked = kind in {"model", "cross_repo"}
        assert answers[kind]["error"] == ("NeedsConsent" if can_be_asked else "UnsafeCheckpoint"), kind
        assert file in answers[kind]["message"], kind
        assert file in answers[f"native_{kind}"]["message"], kind
        assert answers[f"native_{kind}"]["error"] == "", kind
    assert [answer["seen"] for answer in answers.values() if answer["seen"]] == []
    assert [answer["heavy"] for answer in answers.values() if answer["heavy"]] == []
    assert max(answer["seconds"] for answer in answers.values()) <= 1.0


@pytest.mark.parametrize(
    "config",
    [
        {"_attn_implementation": "evil/flash-attention"},
        {"attn_implementation": {"text_config": "evil/kernel:f"}},
        {"text_config": {"_attn_implementation_internal": "evil/kernel"}},
        {"experts_implementation": ["evil/kernel"]},
    ],
)
def test_check_25_a_kernel_named_in_the_config_is_refused(tmp_path: Path, config: dict[str, Any]) -> None:
    with pytest.raises(UnsafeCheckpoint, match="evil/"):
        inspect_folder(checkpoint(tmp_path, **config))


def test_a_kernel_that_transformers_brings_is_no_code(tmp_path: Path) -> None:
    assert inspect_folder(checkpoint(tmp_path, _attn_implementation="sdpa")).warnings == ()


def test_many_files_of_code_are_cut_to_a_few(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"file_{number:02}.py").write_text("")
    with pytest.raises(UnsafeCheckpoint, match=r"file_05\.py and 14 more"):
        inspect_folder(checkpoint(tmp_path, model_type="strange", architectures=["X"]))


# Check 26


class _Bomb:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        import os

        return os.system, ("touch /tmp/vramble-was-here",)


def bomb(protocol: int = 2) -> bytes:
    return pickle.dumps({"weight": _Bomb()}, protocol=protocol)


def torch_zip() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("archive/data.pkl", bomb())
    return content.getvalue()


PICKLES = {
    "pytorch_model.bin": torch_zip(),
    "pytorch_model-00001-of-00001.bin": torch_zip(),
    "model.pt": torch_zip(),
    "model.pth": bomb(),
    "model.ckpt": bomb(4),
    "model.pkl": bomb(5),
    "model.safetensors": torch_zip(),
    "model-00001-of-00001.safetensors": bomb(),
    "extra.safetensors": bomb(0),
}


def with_pickle(folder: Path, name: str) -> Path:
    (checkpoint(folder) / "model.safetensors").unlink()
    (folder / name).write_bytes(PICKLES[name])
    if name.startswith("model-"):
        write_json(folder / "model.safetensors.index.json", {"weight_map": {"a": name}})
    return folder


def test_check_26_no_pickle_is_opened_and_the_message_says_how_to_convert(tmp_path: Path) -> None:
    answers = audited(*(with_pickle(tmp_path / name, name) for name in PICKLES))
    assert len(answers) == len(PICKLES)
    for name, answer in answers.items():
        assert answer["error"] == "UnsafeCheckpoint", name
        assert name in answer["message"], name
        assert "convert" in answer["hint"], name
        assert answer["seen"] == [], name
        assert answer["heavy"] == [], name


# Check 29, as far as headers and configs can tell


def truncated(folder: Path) -> None:
    path = checkpoint(folder) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def bit_flipped(folder: Path) -> None:
    path = checkpoint(folder) / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[2] ^= 0x40
    path.write_bytes(content)


def pointer(folder: Path) -> None:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 99\n"
    (checkpoint(folder) / "model.safetensors").write_text(text)


def web_page(folder: Path) -> None:
    (checkpoint(folder) / "model.safetensors").write_text("<html>sign in</html>")


def empty_shard(folder: Path) -> None:
    (checkpoint(folder) / "model.safetensors").write_bytes(b"")


def missing_tensor(folder: Path) -> None:
    index = sharded(folder) / "model.safetensors.index.json"
    weight_map = json.loads(index.read_text())["weight_map"]
    write_json(index, {"weight_map": weight_map | {"model.extra.weight": "model-00001-of-00002.safetensors"}})


def missing_layer(folder: Path) -> None:
    checkpoint(folder, num_hidden_layers=3)


def wrong_shape(folder: Path) -> None:
    checkpoint(folder, llama_shapes() | {"model.embed_tokens.weight": (60, 16)})


def wrong_dtype(folder: Path) -> None:
    (checkpoint(folder) / "model.safetensors").write_bytes(safetensors(llama_shapes(), "I8"))


def minus_one_layer(folder: Path) -> None:
    checkpoint(folder, num_hidden_layers=-1)


def no_heads(folder: Path) -> None:
    checkpoint(folder, num_attention_heads=0)


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (truncated, "truncated"),
        (bit_flipped, "damaged"),
        (pointer, "Git LFS pointer"),
        (web_page, "web page"),
        (empty_shard, "empty"),
        (missing_tensor, r"model\.extra\.weight"),
        (missing_layer, "1 of the 3 layers"),
        (wrong_shape, "60 × 16"),
        (wrong_dtype, "I8"),
        (minus_one_layer, "num_hidden_layers"),
        (no_heads, "num_attention_heads"),
    ],
)
def test_check_29_a_damaged_checkpoint_is_refused_and_the_cause_named(
    tmp_path: Path, make: Callable[[Path], None], cause: str
) -> None:
    make(tmp_path / "m")
    with pytest.raises(DamagedCheckpoint, match=cause) as caught:
        inspect_folder(tmp_path / "m")
    assert caught.value.hint


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"a":' * 99_999])
def test_check_27_junk_in_a_config_is_a_sentence(tmp_path: Path, name: str, content: bytes) -> None:
    folder = checkpoint(tmp_path)
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name):
        inspect_folder(folder)
