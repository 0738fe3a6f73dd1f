"""The command line: what it takes, what it refuses, and how it says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tui.verbs import folders
from tui import cli
from tui.verbs.usage import WrongUsage


def run(*words: str) -> int:
    return cli.run(words)


def test_every_verb_parses_its_help_without_doing_anything(capsys: pytest.CaptureFixture[str]) -> None:
    for name, verb in cli.VERBS.items():
        assert verb.summary in cli.parser_of(verb, f"vramble {name}").format_help()
    assert capsys.readouterr().out == ""


def test_the_help_of_the_chat_lists_every_command() -> None:
    text = cli.parser_of(cli.CHAT, "vramble").format_help()
    assert all(f"vramble {name}" in text for name in cli.VERBS)


@pytest.mark.parametrize("verb", [*cli.VERBS, ""])
def test_an_unknown_flag_is_one_sentence_and_exit_2(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = {"": [], "plan": ["plan", "MODEL"], "pull": ["pull", "o/n"], "convert": ["convert", "m"]}.get(
        verb, [verb]
    )
    assert run(*words, "--nonsense") == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "--nonsense" in said.err


def test_abbreviated_flags_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--pla") == 2
    assert "--pla" in capsys.readouterr().err


@pytest.mark.parametrize("verb", sorted(cli.NOT_YET))
def test_a_command_of_a_later_version_says_what_to_do_instead(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(verb, "x") == 2
    assert "This version cannot" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["http://host/v1#m"], ["HTTPS://host/v1"], ["ask", "-m", "http://h/v1", "hi"]]
)
def test_a_servers_address_is_refused_as_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*words) == 2
    assert "server" in capsys.readouterr().err


@pytest.mark.parametrize("term", ["xterm-256color", "dumb", ""])
def test_the_chat_without_a_terminal_points_to_ask(
    term: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", term)
    assert run() == 2
    assert "vramble ask" in capsys.readouterr().err


def test_wrong_usage_with_json_is_a_document_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", "--json", "--nonsense") == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["type"] == "WrongUsage"
    assert error["message"].endswith(".")


def test_resuming_two_sessions_at_once_is_refused() -> None:
    with pytest.raises(WrongUsage, match="not allowed with"):
        cli.parser_of(cli.CHAT, "vramble").parse_args(["-c", "--session", "3"])


def test_a_model_named_like_a_command_is_given_as_a_path() -> None:
    parsed = cli.parser_of(cli.CHAT, "vramble").parse_args(["./ask"])
    assert parsed.model == "./ask"


def test_a_broken_settings_file_is_named_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VRAMBLE_HOME", str(tmp_path))
    file = tmp_path / "settings.toml"
    file.write_text("theme = 3\n")
    assert run("ask", "hello") == 1
    assert f"{file}, line 1" in capsys.readouterr().err


def test_deciding_what_to_do_imports_nothing_heavy() -> None:
    heavy = ("psutil", "engine.process", "textual", "torch", "sqlite3", "markdown_it")
    script = (
        "import sys; from tui import cli; cli.run(['--version']);"
        f"found = [name for name in {heavy!r} if name in sys.modules]; sys.exit(' '.join(found) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode == 0


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tui", "--version"], capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("vramble")
    assert done.returncode == 0


@pytest.mark.parametrize("verb", ["plan", "models", "sessions"])
def test_check_47_no_command_imports_torch_or_its_libraries(verb: str, tmp_path: Path) -> None:
    folder = folders.sound(tmp_path / "tiny")
    words = [verb, str(folder)] if verb == "plan" else [verb]
    script = (
        f"import sys; from tui import cli; code = cli.run({words!r});"
        "found = {'torch', 'transformers', 'accelerate', 'bitsandbytes', 'huggingface_hub', 'modelscope'};"
        "sys.exit(' '.join(found & set(sys.modules)) or code)"
    )
    (tmp_path / "script.json").write_text("{}")
    backend = f"scripted:{tmp_path / 'script.json'}"
    environment = os.environ | {"VRAMBLE_HOME": str(tmp_path / "home"), "VRAMBLE_BACKEND": backend}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False
    )
    assert done.stderr == ""
    assert done.returncode == 0
