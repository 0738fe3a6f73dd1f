"""What people write arrives whole, whatever the locale."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from engine import errors
from tui.settings import Settings
from tui.verbs.naming import find_model
from tui.verbs.text import as_text, word_as_text


def test_utf_8_is_read_as_such() -> None:
    assert as_text("显存".encode()) == "显存"


def test_bytes_that_are_no_text_become_replacement_characters() -> None:
    assert as_text(b"a\xff") == "a\ufffd"
    assert word_as_text("a\udcff") == "a\ufffd"


@pytest.mark.parametrize("locale", ["C", "en_US.ISO-8859-1", "C.UTF-8"])
def test_a_chinese_word_is_whole_in_every_locale(locale: str) -> None:
    script = "import sys; from tui.verbs.text import word_as_text; print(ascii(word_as_text(sys.argv[1])))"
    environment = os.environ | {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable.encode(), b"-c", script.encode(), "显存".encode()],
        capture_output=True,
        env=environment,
        check=False,
    )
    assert done.stdout.strip() == rb"'\u663e\u5b58'"


def test_a_model_whose_name_is_no_text_is_unknown() -> None:
    with pytest.raises(errors.UnknownModel, match="no text"):
        find_model("/models/\udcff", Settings())
