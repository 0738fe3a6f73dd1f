"""The shelf of blueprints: private, atomic, one per config.json and version, and never trusted."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec
import pytest

from engine.blueprints import ActivationPeak, Blueprint, BuiltTensor, CacheGrowth
from engine.plan import shelf
from engine.plan.shelf import keep_blueprint, known_blueprint, shelf_folder
from tests.engine.checkpoint.making import checkpoint

MADE = Blueprint(
    architecture="LlamaForCausalLM",
    parameters=1234,
    tensors=(BuiltTensor(name="model.embed_tokens.weight", shape=(64, 16), itemsize=2, active_share=1 / 64),),
    layer_list="model.layers",
    tied=(("lm_head.weight", "model.embed_tokens.weight"),),
    caches=(CacheGrowth(layer=0, bytes_per_token=32),),
    peaks=(ActivationPeak(chunk_tokens=512, context_tokens=512, bytes=7, gpu_bytes=5),),
    step_ops=99,
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VRAMBLE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return checkpoint(tmp_path / "model")


def only_file() -> Path:
    (file,) = shelf_folder().iterdir()
    return file


def test_a_blueprint_comes_back_as_it_was_kept(folder: Path, home: Path) -> None:
    assert known_blueprint(folder) is None
    assert keep_blueprint(folder, MADE)
    assert known_blueprint(folder) == MADE
    assert only_file().is_relative_to(home / "cache")


def test_two_folders_with_the_same_config_share_a_blueprint(folder: Path, tmp_path: Path) -> None:
    keep_blueprint(folder, MADE)
    assert known_blueprint(checkpoint(tmp_path / "copy")) == MADE
    assert known_blueprint(checkpoint(tmp_path / "other", num_hidden_layers=3)) is None


def test_weights_count_only_where_the_config_names_no_dtype(folder: Path, tmp_path: Path) -> None:
    keep_blueprint(folder, MADE)
    (folder / "model.safetensors").unlink()
    assert known_blueprint(folder) == MADE
    unnamed = checkpoint(tmp_path / "unnamed", torch_dtype=None)
    keep_blueprint(unnamed, MADE)
    assert known_blueprint(unnamed) == MADE
    (unnamed / "model.safetensors").write_bytes(b"something else")
    assert known_blueprint(unnamed) is None


@pytest.mark.parametrize("package", ["transformers", "torch"])
def test_another_version_makes_a_blueprint_of_its_own(
    folder: Path, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_blueprint(folder, MADE)
    versions = {"transformers": "5.23.0", "torch": "2.13.0", package: "99.0"}
    monkeypatch.setattr("importlib.metadata.version", versions.__getitem__)
    shelf._versions.cache_clear()
    try:
        assert known_blueprint(folder) is None
    finally:
        shelf._versions.cache_clear()


def test_another_format_makes_a_blueprint_of_its_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_blueprint(folder, MADE)
    monkeypatch.setattr(shelf, "_versions", lambda: ("format 0",))
    assert known_blueprint(folder) is None


def test_the_shelf_is_private_whatever_the_umask(folder: Path) -> None:
    before = os.umask(0)
    try:
        keep_blueprint(folder, MADE)
    finally:
        os.umask(before)
    assert stat.S_IMODE(shelf_folder().stat().st_mode) == 0o700
    assert stat.S_IMODE(only_file().stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xc1",
        b"not a blueprint at all",
        msgspec.msgpack.encode({"architecture": "x"}),
        msgspec.msgpack.encode(["LlamaForCausalLM", 1, []]),
        msgspec.msgpack.encode({"architecture": "x", "parameters": "many", "tensors": []}),
        msgspec.msgpack.encode({"architecture": "x", "parameters": 1, "tensors": [], "code": "os.system"}),
        msgspec.msgpack.encode({"architecture": "x", "parameters": 1, "tensors": [{"name": 3}]}),
        b"\x91" * 100_000,
    ],
)
def test_what_is_no_blueprint_is_as_good_as_none(folder: Path, content: bytes) -> None:
    keep_blueprint(folder, MADE)
    only_file().write_bytes(content)
    assert known_blueprint(folder) is None
    assert keep_blueprint(folder, MADE)
    assert known_blueprint(folder) == MADE


@pytest.mark.parametrize("cut", [1, 20, 100])
def test_a_truncated_file_is_as_good_as_none(folder: Path, cut: int) -> None:
    keep_blueprint(folder, MADE)
    content = only_file().read_bytes()
    only_file().write_bytes(content[:-cut])
    assert known_blueprint(folder) is None


def test_a_file_longer_than_any_blueprint_is_not_read(folder: Path) -> None:
    keep_blueprint(folder, MADE)
    with only_file().open("r+b") as file:
        file.truncate(shelf.LONGEST + 1)
    assert known_blueprint(folder) is None


def test_a_pipe_or_a_folder_in_its_place_hangs_nobody(folder: Path) -> None:
    keep_blueprint(folder, MADE)
    file = only_file()
    file.unlink()
    os.mkfifo(file)
    assert known_blueprint(folder) is None
    file.unlink()
    file.mkdir()
    assert known_blueprint(folder) is None


def test_a_file_of_somebody_else_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_blueprint(folder, MADE)
    own = os.geteuid()
    monkeypatch.setattr("os.geteuid", lambda: own + 1)
    assert known_blueprint(folder) is None


def test_a_cache_that_cannot_be_written_is_no_failure(folder: Path, home: Path) -> None:
    home.mkdir(parents=True)
    (home / "cache").write_text("in the way", encoding="utf-8")
    assert not keep_blueprint(folder, MADE)
    assert known_blueprint(folder) is None


def test_a_failed_write_leaves_the_old_file_and_no_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_blueprint(folder, MADE)

    def fail(*_: object) -> None:
        message = "no space left"
        raise OSError(message)

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", fail)
        assert not keep_blueprint(folder, msgspec.structs.replace(MADE, step_ops=1))
    assert only_file().suffix == ".msgpack"
    assert known_blueprint(folder) == MADE


@pytest.mark.parametrize("content", [b"", b"[]", b"{"])
def test_a_folder_without_a_readable_config_has_no_blueprint(tmp_path: Path, content: bytes) -> None:
    assert known_blueprint(tmp_path / "nowhere") is None
    empty = tmp_path / "empty"
    empty.mkdir()
    assert not keep_blueprint(empty, MADE)
    (empty / "config.json").write_bytes(content)
    assert known_blueprint(empty) is None
    assert not keep_blueprint(empty, MADE)
