from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.checkpoint.files import open_plain, read_json, read_optional_json, shown
from engine.errors import DamagedCheckpoint


def test_a_hostile_name_is_shown_as_one_short_printable_line() -> None:
    assert shown("a\x1b[31m\n\ud800") == "a\\x1b[31m\\n\\ud800"
    assert len(shown("x" * 10_000)) == 80
    shown("\ud800").encode()


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "empty"),
        (b"{", "not JSON"),
        (b"[1]", "no JSON object"),
        (b"\xff\xfe\xff", "not JSON"),
        (b'{"a":' * 100_000, "not JSON"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "not JSON"),
        (b"<html>", "web page"),
        (b'{"a": "' + b"x" * 200 + b'"}', "longer than"),
    ],
)
def test_json_that_is_none_is_refused_by_name(tmp_path: Path, content: bytes, cause: str) -> None:
    (tmp_path / "config.json").write_bytes(content)
    limit = 100 if cause == "longer than" else 1 << 20
    with pytest.raises(DamagedCheckpoint, match=cause) as caught:
        read_json(tmp_path, "config.json", limit)
    assert "config.json" in caught.value.message


def test_an_optional_file_may_be_absent_but_not_damaged(tmp_path: Path) -> None:
    assert read_optional_json(tmp_path, "generation_config.json") == {}
    (tmp_path / "generation_config.json").write_text("nonsense")
    with pytest.raises(DamagedCheckpoint):
        read_optional_json(tmp_path, "generation_config.json")


def test_a_dangling_link_is_missing(tmp_path: Path) -> None:
    (tmp_path / "config.json").symlink_to("nowhere")
    with pytest.raises(DamagedCheckpoint, match="missing"):
        read_optional_json(tmp_path, "config.json")


@pytest.mark.timeout(5)
def test_a_pipe_put_in_a_files_place_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DamagedCheckpoint, match="plain file"):
        open_plain(tmp_path / "pipe")


def test_a_file_that_went_away_is_named(tmp_path: Path) -> None:
    with pytest.raises(DamagedCheckpoint, match="gone cannot be read"):
        open_plain(tmp_path / "gone")
