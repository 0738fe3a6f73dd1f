"""What was agreed to is known again by its content, kept private, and compared with what it has become."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import CodeOrigin, code_of
from tests.tui.verbs import code_folders
from tui.code_review import FileState, changed_lines, review_of, source_lines
from tui.consents import Consents
from tui.widgets.source_view import hidden_characters, revealed


@pytest.fixture
def consents(tmp_path: Path) -> Consents:
    return Consents(tmp_path / "consents", clock=lambda: 1000.0)


def origin_of(folder: Path) -> CodeOrigin:
    return code_of(folder)[0]


def test_a_yes_covers_exactly_the_files_it_was_given_for(tmp_path: Path, consents: Consents) -> None:
    folder = code_folders.make(tmp_path / "m")
    assert not consents.cover(origin_of(folder))
    consents.agree(origin_of(folder))
    assert consents.cover(origin_of(folder))
    (folder / "extra.py").write_text("")
    assert not consents.cover(origin_of(folder))
    (folder / "extra.py").unlink()
    (folder / "modeling_x.py").write_text("class XForCausalLM: pass \n")
    assert not consents.cover(origin_of(folder))


def test_a_yes_for_one_repository_is_none_for_another_with_the_same_files(
    tmp_path: Path, consents: Consents
) -> None:
    consents.agree(origin_of(code_folders.make(tmp_path / "one")))
    assert not consents.cover(origin_of(code_folders.make(tmp_path / "other")))


def test_it_is_kept_private_and_old_texts_go(tmp_path: Path, consents: Consents) -> None:
    folder = code_folders.make(tmp_path / "m")
    consents.agree(origin_of(folder))
    (folder / "modeling_x.py").write_text("class XForCausalLM: ...\n")
    consents.agree(origin_of(folder))
    kept = list((tmp_path / "consents").iterdir())
    assert len(kept) == 3
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}
    assert (tmp_path / "consents").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("content", [b"", b"{", b'[{"repository": 1}]', b"\xff\xfe"])
def test_a_damaged_file_asks_again(tmp_path: Path, consents: Consents, content: bytes) -> None:
    folder = code_folders.make(tmp_path / "m")
    consents.agree(origin_of(folder))
    (tmp_path / "consents" / "consents.json").write_bytes(content)
    assert not consents.cover(origin_of(folder))
    consents.agree(origin_of(folder))
    assert consents.cover(origin_of(folder))


def test_what_changed_since_the_last_yes_is_shown_line_by_line(tmp_path: Path, consents: Consents) -> None:
    folder = code_folders.make(tmp_path / "m", modeling_x="a = 1\nb = 2\nc = 3\n", helper="x = 1\n")
    first = review_of(origin_of(folder), "m", consents)
    assert [file.state for file in first.files] == [FileState.UNSEEN] * 3
    consents.agree(origin_of(folder))
    (folder / "modeling_x.py").write_text("a = 1\nb = 9\nc = 3\n")
    (folder / "added.py").write_text("import os\n")
    (folder / "helper.py").unlink()
    second = review_of(origin_of(folder), "m", consents)
    assert second.agreed_at == 1000.0
    assert [(file.name, file.state) for file in second.files] == [
        ("modeling_x.py", FileState.CHANGED),
        ("added.py", FileState.NEW),
        ("helper.py", FileState.GONE),
        ("configuration_x.py", FileState.SAME),
    ]
    signs = [(line.sign, line.number, line.text) for line in second.files[0].changes]
    assert signs == [("", 1, "a = 1"), ("-", None, "b = 2"), ("+", 2, "b = 9"), ("", 3, "c = 3")]
    assert second.files[2].lines[0].text == "x = 1"


def test_lines_end_where_python_ends_them() -> None:
    text = "a = 1  # no comment\rimport os\nb = '\x0c\x1c\u2028'\n"
    assert [line.text for line in source_lines(text)] == [
        "a = 1  # no comment",
        "import os",
        "b = '\x0c\x1c\u2028'",
    ]


def test_files_too_long_to_compare_are_shown_whole() -> None:
    assert changed_lines("x\n" * 20_001, "y\n" * 20_001) == ()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain = 1", "plain = 1"),
        ("\tindented", "    indented"),
        ("access = '\u202e'", "access = '⟨U+202E⟩'"),
        ("a\x1b[2Jb\x07", "a⟨U+001B⟩[2Jb⟨U+0007⟩"),
        ("zero\u200bwidth\ufeff", "zero⟨U+200B⟩width⟨U+FEFF⟩"),
        ("no\xa0break\u3000", "no⟨U+00A0⟩break⟨U+3000⟩"),
        ("\u3164 = 1 \ufe0f", "⟨U+3164⟩ = 1 ⟨U+FE0F⟩"),
        ("\x9b31m\ud800", "⟨U+009B⟩31m⟨U+D800⟩"),
        ("\U000e0041tag", "⟨U+E0041⟩tag"),
        ("名前 = '你好'", "名前 = '你好'"),
    ],
)
def test_every_character_is_seen(text: str, shown: str) -> None:
    assert revealed(text) == shown
    assert (hidden_characters(text) > 0) == ("⟨" in shown)
