from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import UnknownModel
from engine.guide import FOLDER
from engine.hub import find_model
from engine.values import Hub
from tests.engine.checkpoint.making import checkpoint


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, ...]:
    """Two models of one last name, in both hubs' caches, and a folder with three more."""
    monkeypatch.delenv("HUGGINGFACE_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "ms"))
    checkpoint(tmp_path / "hf" / "models--Qwen--Qwen3-8B" / "snapshots" / "0")
    checkpoint(tmp_path / "hf" / "models--Qwen--Qwen3-4B" / "snapshots" / "0")
    checkpoint(tmp_path / "ms" / "models" / "Qwen" / "Qwen3-8B")
    for name in ("mine", "llama-1b", "llama-3b"):
        checkpoint(tmp_path / "models" / name)
    return (tmp_path / "models",)


def test_the_guide_is_built_in(folders: tuple[Path, ...]) -> None:
    assert find_model("guide", folders).folder == FOLDER


def test_a_folder_is_itself(
    folders: tuple[Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path / "models")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("mine", "./mine", str(tmp_path / "models" / "mine"), "~/models/mine", "../models/mine"):
        found = find_model(name)
        assert (found.name, found.folder) == ("mine", tmp_path / "models" / "mine")


def test_a_path_that_holds_no_model_is_left_to_the_inspector(
    tmp_path: Path, folders: tuple[Path, ...]
) -> None:
    assert find_model(str(tmp_path / "nowhere"), folders).folder == tmp_path / "nowhere"
    assert find_model("/", folders).name == "/"


def test_a_folder_in_sight_that_no_model_is_called_after_is_left_to_the_inspector(
    tmp_path: Path, folders: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notes").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_model("notes", folders).folder == tmp_path / "notes"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("mine", "mine"),
        ("MINE", "mine"),
        ("Qwen3-4B", "Qwen/Qwen3-4B"),
        ("qwen/qwen3-4b", "Qwen/Qwen3-4B"),
        ("hf:Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("ms:Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("ms:Qwen3-8B", "Qwen/Qwen3-8B"),
    ],
)
def test_a_name_or_its_last_part_is_enough(folders: tuple[Path, ...], name: str, found: str) -> None:
    ref = find_model(name, folders)
    assert ref.name == found
    if ":" in name:
        assert ref.hub is (Hub.HUGGINGFACE if name.startswith("hf") else Hub.MODELSCOPE)


def test_a_name_with_two_meanings_names_both(folders: tuple[Path, ...]) -> None:
    with pytest.raises(UnknownModel, match="hf:Qwen/Qwen3-8B, ms:Qwen/Qwen3-8B"):
        find_model("Qwen3-8B", folders)


def test_two_folders_of_one_name_are_told_apart_by_their_paths(
    folders: tuple[Path, ...], tmp_path: Path
) -> None:
    checkpoint(tmp_path / "more" / "mine")
    with pytest.raises(UnknownModel, match="more/mine"):
        find_model("mine", (*folders, tmp_path / "more"))


def test_an_unknown_name_brings_near_ones_and_the_next_step(folders: tuple[Path, ...]) -> None:
    with pytest.raises(UnknownModel, match="called lama-1b") as caught:
        find_model("lama-1b", folders)
    assert caught.value.hint.startswith("Did you mean llama-1b")
    assert "`vramble models`" in caught.value.hint
    with pytest.raises(UnknownModel) as caught:
        find_model("hf:Nobody/Nothing", folders)
    assert caught.value.hint == "`vramble pull hf:Nobody/Nothing` gets it."
    with pytest.raises(UnknownModel) as caught:
        find_model("ms:Nobody/Nothing", folders)
    assert caught.value.hint == "`vramble pull ms:Nobody/Nothing` gets it."


@pytest.mark.parametrize(
    "name",
    ["", " ", "a\0b", "\x1b[31m", "x" * 100_000, "hf:", "\ud800"],
    ids=["empty", "blank", "nul", "escape", "long", "no repository", "surrogate"],
)
def test_a_hostile_name_is_unknown_in_one_short_sentence(folders: tuple[Path, ...], name: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        find_model(name, folders)
    assert len(str(caught.value)) < 400
    assert str(caught.value).encode().isascii() or "…" in str(caught.value)
