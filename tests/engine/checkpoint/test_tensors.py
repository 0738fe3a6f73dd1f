from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.checkpoint.tensors import DTYPE_BITS, HEADER_LIMIT, read_header, read_tensors
from engine.errors import CheckpointError, DamagedCheckpoint, UnsafeCheckpoint
from tests.engine.checkpoint.making import (
    checkpoint,
    header_of,
    llama_shapes,
    packed,
    safetensors,
    sharded,
    write_json,
)


def test_a_header_gives_names_dtypes_shapes_and_places(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    content = safetensors({"a": (2, 3), "b": (4,)})
    path.write_bytes(content)
    first, second = read_header(path, path.name)
    assert (first.name, first.dtype, first.shape, first.bytes, first.elements) == ("a", "BF16", (2, 3), 12, 6)
    assert (second.start, second.start + second.bytes) == (first.start + 12, len(content))
    assert first.file == path


def test_shards_are_read_through_the_index(tmp_path: Path) -> None:
    names = {tensor.name for tensor in read_tensors(sharded(tmp_path, 3))}
    assert names == set(llama_shapes())


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"\x00" * 64, "no safetensors header"),
        (packed(b"{}")[:9], "truncated"),
        ((HEADER_LIMIT + 1).to_bytes(8, "little") + b"{" * 50, "no safetensors header"),
        (packed(b"{broken"), "malformed"),
        (packed(b'{"a": 1}'), "malformed"),
        (packed(b'{"a":' * 50_000), "malformed"),
        (packed(b'{"a": {"dtype": "BF16", "shape": [0], "data_offsets": [0, 0], "x": 1}}'), "malformed"),
        (packed(json.dumps(header_of({"a": (1,)})).encode(), b"\0"), "truncated"),
        (packed(json.dumps(header_of({"a": (1,)})).encode(), b"\0\0\0"), "longer"),
        (packed(b'{"a": {"dtype": "BF16", "shape": [1], "data_offsets": [2, 4]}}', bytes(4)), "gap"),
        (packed(b'{"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 2]}}', bytes(2)), "shape"),
        (packed(b'{"a": {"dtype": "BF16", "shape": [-1], "data_offsets": [0, -2]}}'), "shape"),
        (
            packed(b'{"a": {"dtype": "Q4_K", "shape": [1], "data_offsets": [0, 2]}}', bytes(2)),
            "unknown dtype",
        ),
        (
            packed(
                b'{"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},'
                b' "a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}',
                bytes(1),
            ),
            "twice",
        ),
    ],
)
def test_a_damaged_file_is_named_with_its_cause_and_the_next_step(
    tmp_path: Path, content: bytes, cause: str
) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(DamagedCheckpoint, match=cause) as caught:
        read_tensors(tmp_path)
    assert "model.safetensors" in caught.value.message
    assert caught.value.hint


def test_two_tensors_may_not_overlap(tmp_path: Path) -> None:
    header = {name: {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]} for name in ("a", "b")}
    (tmp_path / "model.safetensors").write_bytes(packed(json.dumps(header).encode(), bytes(4)))
    with pytest.raises(DamagedCheckpoint, match="overlaps"):
        read_tensors(tmp_path)


def test_an_empty_tensor_takes_no_room(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(safetensors({"a": (0, 4), "b": (2,), "c": ()}))
    assert [tensor.bytes for tensor in read_tensors(tmp_path)] == [0, 4, 2]


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = sharded(tmp_path)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(DamagedCheckpoint, match=r"model-00002-of-00002\.safetensors is missing"):
        read_tensors(folder)


def test_a_tensor_that_the_index_promises_must_be_there(tmp_path: Path) -> None:
    folder = sharded(tmp_path)
    first = folder / "model-00001-of-00002.safetensors"
    first.write_bytes(safetensors({"other": (1,)}))
    with pytest.raises(DamagedCheckpoint, match=r"11 tensors .* are missing, first lm_head|tensors"):
        read_tensors(folder)


@pytest.mark.parametrize("index", [{}, {"weight_map": {}}, {"weight_map": []}, {"weight_map": {"a": 1}}])
def test_an_index_without_a_proper_map_is_damaged(tmp_path: Path, index: object) -> None:
    write_json(tmp_path / "model.safetensors.index.json", index)
    with pytest.raises(DamagedCheckpoint, match=r"index\.json is damaged"):
        read_tensors(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "../outside.safetensors",
        "/etc/passwd",
        "/dev/zero",
        "sub/model.safetensors",
        "..",
        ".",
        "",
        "a\\b",
        "a\0b",
        "x" * 5_000,
        "link.safetensors",
        "fifo.safetensors",
        "folder.safetensors",
        "zero.safetensors",
        "loop.safetensors",
    ],
)
@pytest.mark.timeout(10)
def test_check_28_no_name_in_the_index_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "outside.safetensors").write_bytes(safetensors({"a": (1,)}))
    (folder / "link.safetensors").symlink_to(tmp_path / "outside.safetensors")
    (folder / "zero.safetensors").symlink_to("/dev/zero")
    (folder / "loop.safetensors").symlink_to("loop.safetensors")
    (folder / "folder.safetensors").mkdir()
    os.mkfifo(folder / "fifo.safetensors")
    write_json(folder / "model.safetensors.index.json", {"weight_map": {"a": name}})
    with pytest.raises(DamagedCheckpoint) as caught:
        read_tensors(folder)
    assert len(caught.value.message) < 300


def test_check_28_a_link_inside_the_hugging_face_cache_is_followed(tmp_path: Path) -> None:
    repository = tmp_path / "models--a--b"
    blob = repository / "blobs" / "0123"
    snapshot = repository / "snapshots" / "main"
    blob.parent.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    blob.write_bytes(safetensors({"a": (1,)}))
    (snapshot / "model.safetensors").symlink_to("../../blobs/0123")
    assert read_tensors(snapshot)[0].file == blob.resolve()


def test_check_28_a_link_to_another_repositorys_blob_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "models--x--y" / "blobs" / "0123"
    snapshot = tmp_path / "models--a--b" / "snapshots" / "main"
    other.parent.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    other.write_bytes(safetensors({"a": (1,)}))
    (snapshot / "model.safetensors").symlink_to(other)
    with pytest.raises(DamagedCheckpoint, match="leads out of its folder"):
        read_tensors(snapshot)


@pytest.mark.timeout(20)
def test_check_28_an_index_of_100_000_entries_is_read_or_refused_quickly(tmp_path: Path) -> None:
    weight_map = {f"t{number}": f"../{number}" for number in range(100_000)}
    write_json(tmp_path / "model.safetensors.index.json", {"weight_map": weight_map})
    with pytest.raises(DamagedCheckpoint, match="outside its folder"):
        read_tensors(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_named(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path)
    (folder / "model.safetensors").chmod(0)
    with pytest.raises(DamagedCheckpoint, match="cannot be read"):
        read_tensors(folder)


@given(content=st.binary(max_size=600))
@example(content=packed(b"{}"))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.safetensors"
    path.write_bytes(content)
    with contextlib.suppress(CheckpointError):
        assert sum(tensor.bytes for tensor in read_header(path, path.name)) < len(content)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
_entry = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([*DTYPE_BITS, "?"]),
        "shape": st.lists(st.integers(-1, 5), max_size=3),
        "data_offsets": st.lists(st.integers(-4, 60), min_size=2, max_size=2),
    }
)


@given(header=st.dictionaries(st.text(max_size=6), _entry | _json, max_size=3), extra=st.integers(0, 64))
def test_any_header_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, header: object, extra: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.safetensors"
    path.write_bytes(packed(json.dumps(header).encode(), bytes(extra)))
    try:
        tensors = read_header(path, path.name)
    except DamagedCheckpoint:
        return
    assert sum(tensor.bytes for tensor in tensors) == extra


@pytest.mark.parametrize(
    "content", [b"PK\x03\x04\x00\x00\x08\x08rest", b"\x80\x02}q\x00.", b"cos\nsystem\n(S'x'\ntR."]
)
def test_a_pickle_under_a_safetensors_name_is_unsafe(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(UnsafeCheckpoint, match="pickle"):
        read_tensors(tmp_path)
