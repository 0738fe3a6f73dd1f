"""What is written: safe on terminals, whole in pipes, and one JSON document where one is asked for."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui.verbs import output

HOSTILE = "a\x1b]0;title\x07b\x9b31mc\u202ed\r\ne\tf\x00"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_safe_text() -> None:
    terminal = Terminal()
    output.write_text(HOSTILE, terminal)
    assert not set(terminal.getvalue()) & set("\x1b\x07\x9b\u202e\r\x00")


def test_a_pipe_gets_the_text_without_control_characters() -> None:
    pipe = io.StringIO()
    output.write_text("你好 " + HOSTILE, pipe)
    assert pipe.getvalue() == "你好 a]0;titleb31mc\u202ed\ne\tf"


@given(st.text())
def test_without_controls_changes_nothing_else(text: str) -> None:
    kept = (c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")
    assert output.without_controls(text) == "".join(kept)


def test_lone_surrogates_become_replacement_characters() -> None:
    assert output.without_controls("a\ud800b") == "a\ufffdb"


def test_json_is_one_document_that_drives_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    document = {"text": HOSTILE, "zh": "显存"}
    output.write_json(document)
    written = capsys.readouterr().out
    assert json.loads(written) == document
    assert "显存" in written
    assert not set(written) & set("\x1b\x07\x9b\u202e\r\x00")


def test_a_complaint_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    output.complain("It\nbroke\x1b[2J.", "Try again.")
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "\x1b" not in said.err


@pytest.mark.parametrize("locale", ["C", "POSIX", "en_US.ISO-8859-1", "zh_CN.GB18030"])
def test_chinese_survives_a_locale_without_it(locale: str) -> None:
    text = r"\u663e\u5b58 \u2581 \xe9"
    script = f"from tui.verbs import output; output.use_unicode(); output.write_line('{text}')"
    environment = os.environ | {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environment, check=False)
    assert done.stderr == b""
    assert done.stdout.decode() == "显存 ▁ é\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_crash(closed: str) -> None:
    command = f"{sys.executable} -m tui --version {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=False)
    assert done.returncode == 0
    assert done.stderr == b""
