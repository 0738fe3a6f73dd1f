"""The close look at a folder: every question is answered."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from engine.checkpoint import examine as examining
from engine.checkpoint import read_tensors
from engine.checkpoint.examine import Check, examine
from engine.checkpoint.numbers import sample_numbers
from engine.checkpoint.template_trial import fault
from engine.checkpoint.templates import TemplateTrial, chat_template, try_template
from engine.errors import DamagedCheckpoint, NotACheckpoint
from tests.engine.checkpoint.making import Shapes, checkpoint, header_of, llama_shapes, packed, sharded

SOUND_TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"


@pytest.fixture(autouse=True)
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial of a template has tests of its own."""
    monkeypatch.setattr(examining, "try_template", lambda *_: TemplateTrial("", takes_system=True))


def looked(folder: Path) -> dict[str, Check]:
    return {check.name: check for check in examine(folder)}


def with_numbers(folder: Path, shapes: Shapes, dtype: str, at: dict[str, tuple[int, bytes]]) -> Path:
    """A llama of zeros, but for some bytes at an offset in some tensors."""
    checkpoint(folder)
    header = header_of(shapes, dtype)
    data = bytearray(max(entry["data_offsets"][1] for name, entry in header.items() if name[0] != "_"))
    for name, (offset, value) in at.items():
        start = header[name]["data_offsets"][0] + offset
        data[start : start + len(value)] = value
    (folder / "model.safetensors").write_bytes(packed(json.dumps(header).encode(), bytes(data)))
    return folder


def test_a_sound_folder_passes_every_question(tmp_path: Path) -> None:
    one = struct.pack("<H", 0x3F80)
    folder = with_numbers(tmp_path / "m", llama_shapes(), "BF16", {"lm_head.weight": (0, one)})
    found = looked(folder)
    assert list(found) == ["class", "format", "code", "paths", "headers", "tensors", "numbers", "template"]
    assert {check.status for check in found.values()} == {"ok"}


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [
        ("BF16", b"\xc0\x7f"),
        ("BF16", b"\x80\xff"),
        ("F16", b"\x01\x7c"),
        ("F32", b"\x00\x00\x80\x7f"),
        ("F64", b"\x00" * 6 + b"\xf8\x7f"),
    ],
)
@pytest.mark.parametrize("element", [0, 511, 1023])
def test_check_29_numbers_that_are_none_are_seen_in_every_dtype(
    dtype: str, bits: bytes, element: int, tmp_path: Path
) -> None:
    at = {"lm_head.weight": (element * len(bits), bits)}
    folder = with_numbers(tmp_path / "m", llama_shapes(), dtype, at)
    found = looked(folder)["numbers"]
    assert found.status == "fail"
    assert found.found == "There is NaN or infinity in lm_head.weight."


def test_large_finite_numbers_are_no_infinity(tmp_path: Path) -> None:
    at = {
        "lm_head.weight": (0, struct.pack("<H", 0x7F7F)),
        "model.norm.weight": (0, struct.pack("<H", 0xFF7F)),
    }
    assert not sample_numbers(read_tensors(with_numbers(tmp_path, llama_shapes(), "BF16", at))).broken


def test_the_sample_is_bounded_whatever_the_size(tmp_path: Path) -> None:
    shapes = llama_shapes() | {"model.extra": (4_000_000,)}
    sample = sample_numbers(read_tensors(with_numbers(tmp_path, shapes, "BF16", {})))
    assert sample.elements < 30_000
    assert sample.is_empty


def test_files_that_are_holes_are_said(tmp_path: Path) -> None:
    assert "look like holes" in looked(checkpoint(tmp_path))["numbers"].found


def test_missing_and_extra_tensors_are_named(tmp_path: Path) -> None:
    shapes = llama_shapes()
    del shapes["model.layers.1.mlp.up_proj.weight"]
    shapes["model.layers.1.mlp.surprise.weight"] = (16, 16)
    found = [check for check in examine(checkpoint(tmp_path, shapes)) if check.name == "tensors"]
    assert [(check.status, check.found) for check in found] == [
        ("fail", "Missing: layers.1.mlp.up_proj.weight."),
        ("warn", "Not of this family, and not loaded: layers.1.mlp.surprise.weight."),
    ]


def test_another_shape_is_named(tmp_path: Path) -> None:
    shapes = llama_shapes() | {"model.layers.1.mlp.up_proj.weight": (40, 16)}
    found = looked(checkpoint(tmp_path, shapes))["tensors"]
    assert (found.status, "up_proj" in found.found) == ("warn", True)


def test_a_family_that_nobody_here_knows_is_left_to_the_load(tmp_path: Path) -> None:
    shapes = {f"other.{name}": shape for name, shape in llama_shapes().items()}
    assert "loading tells" in looked(checkpoint(tmp_path, shapes))["tensors"].found


def test_a_link_that_leads_out_is_named_and_the_other_questions_are_answered(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "m")
    (tmp_path / "secret.json").write_text("{}")
    (folder / "extra.json").symlink_to(tmp_path / "secret.json")
    found = looked(folder)
    assert found["paths"].status == "fail"
    assert "extra.json leads out of its folder" in found["paths"].found
    assert found["headers"].status == "ok"


def test_damaged_headers_fail_what_needs_them_and_nothing_else(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "m")
    (folder / "model-00002-of-00002.safetensors").write_bytes(b"<html>")
    found = looked(folder)
    failed = {name for name, check in found.items() if check.status == "fail"}
    assert failed == {"headers", "tensors", "numbers"}
    assert "web page" in found["headers"].found


def test_code_is_named(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "m")
    (folder / "modeling_mine.py").write_text("raise SystemExit")
    assert looked(folder)["code"].found == "It brings code, which is not run: modeling_mine.py."


def test_what_is_no_model_folder_is_refused_as_a_whole(tmp_path: Path) -> None:
    with pytest.raises(NotACheckpoint):
        examine(tmp_path)


def test_the_template_that_transformers_takes_is_found(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "m")
    assert chat_template(folder) == "{{ messages }}"
    several = [{"name": "tool_use", "template": "a"}, {"name": "default", "template": "b"}]
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": several}))
    assert chat_template(folder) == "b"
    (folder / "chat_template.jinja").write_text("c")
    assert chat_template(folder) == "c"
    (folder / "chat_template.jinja").write_text("c" * (2 << 20))
    with pytest.raises(DamagedCheckpoint, match="longer than 1 MiB"):
        chat_template(folder)


_NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + SOUND_TEMPLATE
_ENDLESS = "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}"
_HUGE = "{% for message in messages %}{{ message.content * 999999999 }}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "problem", "takes_system"),
    [
        (_NO_SYSTEM, None, False),
        (_ENDLESS, "it takes more than 2 s", False),
        (_HUGE, "MemoryError", False),
    ],
)
def test_check_30_a_template_is_tried_in_a_process_with_limits(
    template: str, problem: str | None, takes_system: bool, tmp_path: Path
) -> None:
    trial = try_template(checkpoint(tmp_path), template)
    assert trial.takes_system is takes_system
    assert (problem in trial.problem) if problem else not trial.problem


def test_faults_of_a_template_are_named() -> None:
    talk = [("system", "s"), ("user", "hello")]

    def refusing(_: list[tuple[str, str]]) -> str:
        raise RecursionError("too deep")

    assert fault(refusing, talk) == "it fails with RecursionError: too deep"
    assert fault(lambda _: "x" * (2 << 20), talk) == "it makes 2,097,152 characters of three short messages"
    assert fault(lambda _: "s", talk) == "it leaves out a message: 'hello'"
    assert not fault(lambda _: "hello", talk)
