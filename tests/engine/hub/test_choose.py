"""What of a repository is fetched, what is refused, and what names it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.downloads import Repository
from engine.errors import ChecksumMismatch, DownloadError, InvalidValue, NothingToLoad, UnsafeListing
from engine.hub.choose import choose
from engine.hub.failures import explained
from engine.hub.listing import RemoteFile, checked, remote_file
from engine.hub.pace import Pace
from engine.hub.repositories import parse_repository
from engine.values import Hub

SHA = "a" * 64
HOSTILE = [
    "../config.json",
    "a/../b.json",
    "/etc/passwd",
    "a//b",
    "./a",
    "a/.",
    "",
    "a\\b",
    "a\0b",
    "a\nb",
    "\x1b[31m",
    "..",
    "x" * 256,
    "a/" * 600 + "b",
]


def file(path: str, size: int = 10, sha256: str = SHA) -> RemoteFile:
    return RemoteFile(path=path, size=size, sha256=sha256)


def wanted(*paths: str) -> list[str]:
    return sorted(each.path for each in choose(map(file, paths)).wanted)


def test_safetensors_and_small_files_are_fetched_and_nothing_else() -> None:
    small = ["LICENSE", "README.md", "config.json", "merges.txt", "tokenizer.model", "chat_template.jinja"]
    others = [
        "pytorch_model.bin",
        "modeling.py",
        "a.gguf",
        "onnx/model.onnx",
        "tf_model.h5",
        ".gitattributes",
    ]
    others += ["original/consolidated.00.pth", "original/params.json", "figure.png", "sub/model.safetensors"]
    assert wanted("model.safetensors", *small, *others) == sorted(["model.safetensors", *small])


def test_shards_come_without_copies_in_other_names() -> None:
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    others = ["consolidated.safetensors", "model.fp16.safetensors"]
    assert wanted("config.json", *shards, *others) == ["config.json", *shards]
    assert wanted("consolidated.safetensors", "config.json") == ["config.json", "consolidated.safetensors"]


def test_what_is_not_fetched_is_named_with_what_it_needs() -> None:
    paths = ["config.json", "model.safetensors", "a.bin", "b.bin", "m.py", "m.gguf"]
    notes = " ".join(choose(map(file, paths)).notes)
    assert "2 files of pickles" in notes
    assert "1 file of code" in notes
    assert "package gguf" in notes


def test_without_safetensors_the_other_formats_are_the_reason() -> None:
    with pytest.raises(NothingToLoad, match=r"no safetensors\. Not fetched: 1 file of GGUF"):
        choose([file("m.gguf"), file("config.json")])


def test_weights_need_a_checksum_and_a_huge_config_is_left_there() -> None:
    with pytest.raises(ChecksumMismatch, match="SHA-256"):
        choose([file("model.safetensors", sha256=""), file("config.json")])
    chosen = choose([file("model.safetensors"), file("config.json"), file("tokenizer.json", 2**40)])
    assert [each.path for each in chosen.wanted] == ["config.json", "model.safetensors"]


def test_weights_without_a_config_are_no_model() -> None:
    with pytest.raises(NothingToLoad, match=r"no config\.json"):
        choose([file("adapter_model.safetensors"), file("adapter_config.json")])


@pytest.mark.parametrize("path", HOSTILE)
def test_check_28_a_path_that_leads_out_or_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(UnsafeListing) as caught:
        checked("main", [file("config.json"), file(path)])
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def test_check_28_a_file_that_is_also_a_folder_or_listed_twice_is_refused() -> None:
    for paths in (["a", "a/b"], ["a/b/c", "a/b"], ["a", "a"]):
        with pytest.raises(UnsafeListing):
            checked("main", map(file, paths))


def test_check_28_a_listing_of_a_hundred_thousand_files_is_read_and_of_more_is_refused() -> None:
    many = [file(f"{number}") for number in range(100_000)]
    assert len(checked("main", many).files) == 100_000
    with pytest.raises(UnsafeListing):
        checked("main", [*many, file("one-more")])


@given(st.text(max_size=40), st.one_of(st.integers(), st.none(), st.text()), st.text(max_size=70))
def test_check_27_any_listing_is_checked_or_refused(path: str, size: object, digest: str) -> None:
    try:
        (kept,) = checked("main", [remote_file(path, size, digest)]).files
    except UnsafeListing:
        return
    assert not kept.path.startswith("/")
    assert ".." not in kept.path.split("/")
    assert kept.sha256 in {"", digest.lower()}


@pytest.mark.parametrize(
    ("word", "hub", "repo_id", "revision"),
    [
        ("hf:Qwen/Qwen3-8B", Hub.HUGGINGFACE, "Qwen/Qwen3-8B", ""),
        ("Qwen/Qwen3-0.6B", Hub.HUGGINGFACE, "Qwen/Qwen3-0.6B", ""),
        ("ms:ZhipuAI/chatglm2-6b@v1.0.12", Hub.MODELSCOPE, "ZhipuAI/chatglm2-6b", "v1.0.12"),
        ("hf:a/b@refs/pr/3", Hub.HUGGINGFACE, "a/b", "refs/pr/3"),
    ],
)
def test_a_name_has_a_hub_an_owner_and_perhaps_a_revision(
    word: str, hub: Hub, repo_id: str, revision: str
) -> None:
    assert parse_repository(word) == Repository(hub=hub, repo_id=repo_id, revision=revision)


@pytest.mark.parametrize(
    "word",
    [
        *("", "hf:", "Qwen", "a/b/c", "a/../b", "../b", "a/..", "a b/c", "a/b@", "a/b@../x", "a/b@-x"),
        *("a--b/c", "a/b\n", "/a/b", "a/-b", "ms:a/b@x/y", "http://a/b", "\x1b[31m/b", "a/" + "b" * 200),
    ],
)
def test_what_cannot_be_a_name_is_refused_in_one_short_line(word: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        parse_repository(word)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def test_check_42_the_text_of_a_librarys_error_is_never_shown() -> None:
    repository = parse_repository("ms:owner/name")
    secret = "https://user:canary@proxy/?token=canary"
    for kind in (ValueError, RuntimeError, ConnectionError, KeyError):
        told = explained(kind(secret), repository)
        assert isinstance(told, DownloadError)
        assert "canary" not in str(told)


def test_a_pace_is_that_of_the_last_seconds() -> None:
    pace = Pace()
    for second in range(30):
        pace.note(second, 100 * second if second < 20 else 1900 + 10 * (second - 19))
    assert pace.bytes_per_second == pytest.approx(10)
    assert pace.seconds_left(50) == pytest.approx(5)
    assert pace.silent_seconds(31) == pytest.approx(2)
    assert Pace().seconds_left(50) is None
