"""One answer on stdout, from a scripted engine in its own process, and once from a real one."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.tui.verbs import folders
from tui import cli

KEYS = {
    "text",
    "reasoning",
    "finish_reason",
    "prompt_tokens",
    "completion_tokens",
    "time_to_first_token",
    "decode_tps",
    "peak_ram_bytes",
    "model",
    "context_window",
}
HOSTILE = "safe\x1b]0;title\x07 \x9b31m你好\u202e\n"


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("VRAMBLE_HOME", str(tmp_path / "home"))
    return str(folders.sound(tmp_path / "tiny"))


@pytest.fixture(autouse=True)
def empty_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    give_stdin(monkeypatch, b"")


def give_stdin(monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))


def play(model: str, monkeypatch: pytest.MonkeyPatch, *replies: dict[str, Any], **script: Any) -> None:
    file = Path(model).parent / "script.json"
    file.write_text(json.dumps({"replies": list(replies), **script}))
    monkeypatch.setenv("VRAMBLE_BACKEND", f"scripted:{file}")


def spawn(*words: str, **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tui", "ask", *words]
    pipes: dict[str, Any] = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
    }
    asked: subprocess.Popen[bytes] = subprocess.Popen(command, **(pipes | options))
    return asked


def test_the_answer_is_all_that_stdout_holds(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    play(model, monkeypatch, {"text": "It keeps keys and values.", "reasoning": "Let me think."})
    assert cli.run(["ask", "-m", model, "What", "is", "a", "KV", "cache?"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "It keeps keys and values.\n"
    assert captured.err == ""


@pytest.mark.parametrize(
    ("words", "stdin", "prompt"),
    [
        ([], "from stdin\n", "from stdin"),
        (["from", "words"], "", "from words"),
        (["Explain:"], "a\nb\n", "Explain:\n\na\nb"),
        (["说明：", "缓存"], "", "说明： 缓存"),
    ],
)
def test_the_question_is_words_and_stdin(
    model: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    stdin: str,
    prompt: str,
) -> None:
    play(model, monkeypatch, {"text": "{prompt}", "tokens_per_second": 0})
    give_stdin(monkeypatch, stdin.encode())
    assert cli.run(["ask", "-m", model, "--json", *words]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == prompt


def test_json_is_one_document_with_text_and_figures(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    play(model, monkeypatch, {"text": HOSTILE, "reasoning": "hm"})
    assert cli.run(["ask", "-m", model, "--json", "hi"]) == 0
    written = capsys.readouterr().out
    document = json.loads(written)
    assert set(document) >= KEYS
    assert document["text"] == HOSTILE
    assert document["reasoning"] == "hm"
    assert document["finish_reason"] == "stop"
    assert not set(written) & set("\x1b\x07\x9b\u202e")


def test_a_reply_that_fails_keeps_its_text_and_exits_1(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fault = {"kind": "out_of_memory", "at": 2, "message": "The GPU is full."}
    play(model, monkeypatch, {"text": "word " * 20, "fault": fault})
    assert cli.run(["ask", "-m", model, "hi"]) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("word")
    assert captured.err.startswith("vramble: The GPU is full.")
    assert captured.err.count("\n") == 1


def test_a_load_that_fails_is_one_sentence_and_one_document(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    play(model, monkeypatch, {}, load={"fault": {"kind": "out_of_memory", "message": "No room."}})
    assert cli.run(["ask", "-m", model, "--json", "hi"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["error"]["type"] == "OutOfMemory"
    assert captured.err.startswith("vramble: No room.")


def test_an_engine_that_dies_is_named(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    play(model, monkeypatch, {"text": "word " * 20, "fault": {"kind": "signal", "at": 2, "number": 11}})
    assert cli.run(["ask", "-m", model, "hi"]) == 1
    assert "SIGSEGV" in capsys.readouterr().err


def test_ctrl_c_keeps_what_was_written_and_exits_1(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    play(model, monkeypatch, {"text": "word " * 5000, "tokens_per_second": 100})
    with spawn("-m", model, "hi", start_new_session=True) as asked:
        assert asked.stdout is not None
        begun = asked.stdout.read(4)
        os.killpg(asked.pid, signal.SIGINT)  # as a terminal does: to the engine's process too
        out, err = asked.communicate()
    assert (begun + out).startswith(b"word")
    assert out.endswith(b"\n")
    assert err == b"vramble: Stopped.\n"
    assert asked.returncode == 1


def test_a_reader_that_goes_away_is_no_complaint(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    play(model, monkeypatch, {"text": "word\n" * 500, "tokens_per_second": 1000})
    with spawn("-m", model, "hi") as asked:
        assert asked.stdout is not None
        assert asked.stderr is not None
        assert asked.stdout.read(4) == b"word"
        asked.stdout.close()
        assert asked.stderr.read() == b""
    assert asked.returncode == 1


def test_chinese_is_written_whatever_the_locale(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    play(model, monkeypatch, {"text": "显存不够。"})
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    with spawn("-m", model, "为什么？", env=environment) as asked:
        out, err = asked.communicate()
    assert err == b""
    assert out.decode() == "显存不够。\n"


def test_a_terminal_is_not_driven_by_the_model(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    play(model, monkeypatch, {"text": HOSTILE})
    terminal, theirs = pty.openpty()
    with spawn("-m", model, "hi", stdout=theirs) as asked:
        os.close(theirs)
        asked.wait()
    written = os.read(terminal, 4096).decode()
    os.close(terminal)
    assert "你好" in written
    assert not set(written) & set("\x1b\x07\x9b\u202e")


def test_too_much_on_stdin_is_wrong_usage(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tui.verbs.ask._MOST_STDIN_BYTES", 10)
    give_stdin(monkeypatch, b"x" * 11)
    assert cli.run(["ask", "-m", model]) == 2
    assert "stdin" in capsys.readouterr().err


def test_a_real_engine_answers_from_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests import tiny_models

    monkeypatch.setenv("VRAMBLE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("VRAMBLE_BACKEND", raising=False)
    words = ["-m", str(tiny_models.checkpoint("llama")), "--max-new-tokens", "8", "--seed", "1", "--json"]
    with spawn(*words, stdin=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"}) as asked:
        out, _err = asked.communicate(b"What is a KV cache?\n")
    document = json.loads(out)
    assert asked.returncode == 0
    assert set(document) >= KEYS
    assert document["completion_tokens"] == 8
    assert document["finish_reason"] == "length"
    assert document["decode_tps"] > 0
    assert document["peak_ram_bytes"] > 0


def test_the_system_prompt_of_the_settings_can_be_left_out(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Path(model).parent / "home"
    home.mkdir()
    (home / "settings.toml").write_text('system_prompt = "请用中文回答"\n', encoding="utf-8")
    play(model, monkeypatch, {"text": "yes"})
    counts = []
    for words in ([], ["--system", ""]):
        assert cli.run(["ask", "-m", model, "--json", "hi", *words]) == 0
        counts.append(json.loads(capsys.readouterr().out)["prompt_tokens"])
    assert counts[0] > counts[1]


def test_the_model_used_last_answers_where_none_is_named(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Path(model).parent / "home"
    home.mkdir()
    (home / "settings.toml").write_text(f'last_model = "{model}"\n')
    play(model, monkeypatch, {"text": "yes"})
    assert cli.run(["ask", "--json", "hi"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "tiny"
